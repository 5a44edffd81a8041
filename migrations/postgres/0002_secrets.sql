-- The encrypted values of secrets. Which secrets and versions there are, the events say; here is only what they name.

CREATE TABLE secret_versions (
    -- UUID; the event that adds the version names it.
    sealed_id  text COLLATE "C" PRIMARY KEY,
    -- UUIDs of the secret and the tenant, and the number of the version: authenticated with the ciphertext.
    secret_id  text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    version    bigint           NOT NULL CHECK (version > 0),
    -- Which key it was sealed with: a digest that tells keys apart and says nothing else of them.
    key_id     text COLLATE "C" NOT NULL,
    -- XChaCha20-Poly1305: nonce, and ciphertext with tag.
    nonce      bytea            NOT NULL CHECK (octet_length(nonce) = 24),
    ciphertext bytea            NOT NULL CHECK (octet_length(ciphertext) > 16),
    -- RFC 3339, UTC, six fractional digits, Z.
    created_at text COLLATE "C" NOT NULL
);

CREATE INDEX secret_versions_of_secret ON secret_versions (secret_id);
