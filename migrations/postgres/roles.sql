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
    -- The schema that this is run in. The projections' tables are granted to these roles as they are made; those that were
    -- made before are with the next rebuild.
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO lease_ledger_writer, lease_ledger_auditor, lease_ledger_analyst', current_schema());
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO lease_ledger_writer', current_schema());
END
$$;

GRANT SELECT, INSERT ON events TO lease_ledger_writer;
GRANT SELECT, UPDATE ON head TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE ON owners TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON duties TO lease_ledger_writer;
GRANT SELECT ON ledger TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE ON mirror TO lease_ledger_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON secret_versions TO lease_ledger_writer;

GRANT SELECT ON events, head, ledger, mirror TO lease_ledger_auditor;

-- The projections' tables are made, and made anew, by the ledger's processes, which hand them over and grant this as they go
-- where the roles are there. For those that were made before: the marks to see how far each table has come, but not why one
-- stands still, which may speak of any company.
DO $$
DECLARE
    name text;
BEGIN
    IF to_regclass('projections') IS NULL THEN
        RETURN;
    END IF;
    FOR name IN SELECT projections.name FROM projections WHERE to_regclass(projections.name) IS NOT NULL LOOP
        EXECUTE format('GRANT SELECT ON %I TO lease_ledger_analyst', name);
        EXECUTE format('ALTER TABLE %I OWNER TO lease_ledger_writer', name);
    END LOOP;
    GRANT SELECT (name, version, generation, position, stalled_at) ON projections TO lease_ledger_analyst;
    ALTER TABLE projections OWNER TO lease_ledger_writer;
END
$$;
