-- Who may do what, as roles that nobody logs in as: grant them to logins. Run by the owner of the ledger's tables, in the
-- ledger's database and schema, after they were made; running it again changes nothing. docs/postgres.md says more.
--
--   lease_ledger_writer   a ledger process: appends events, never changes or deletes them; makes the projections' tables.
--   lease_ledger_auditor  reads the events and the ledger's identity.
--   lease_ledger_analyst  reads the projections' tables, of one company where row-level security says so.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['lease_ledger_writer', 'lease_ledger_auditor', 'lease_ledger_analyst'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    -- The schema that this is run in; what is made in it by the writer later is for the analyst to read.
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO lease_ledger_writer, lease_ledger_auditor, lease_ledger_analyst', current_schema());
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO lease_ledger_writer', current_schema());
END
$$;

GRANT SELECT, INSERT ON events TO lease_ledger_writer;
GRANT SELECT, UPDATE ON head TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE ON owners TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON duties TO lease_ledger_writer;
GRANT SELECT ON ledger TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON secret_versions TO lease_ledger_writer;

GRANT SELECT ON events, head, ledger TO lease_ledger_auditor;
