-- Databases and roles of Coldchain. As postgres, with both passwords in the environment:
--   psql --no-psqlrc --set ON_ERROR_STOP=1 --file databases.sql
\getenv password COLDCHAIN_DB_PASSWORD
\getenv backup_password COLDCHAIN_BACKUP_PASSWORD

-- The services own their tables, since whichever starts first makes and migrates them; nothing outside their databases.
CREATE ROLE coldchain LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
-- A backup reads, and nothing else.
CREATE ROLE coldchain_backup LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'backup_password';
GRANT pg_read_all_data TO coldchain_backup;

-- Two databases: the intake log is written all day and is small, the records are what a restore is about.
CREATE DATABASE coldchain_records OWNER coldchain TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
CREATE DATABASE coldchain_intake OWNER coldchain TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
REVOKE ALL ON DATABASE coldchain_records, coldchain_intake FROM PUBLIC;
GRANT CONNECT ON DATABASE coldchain_records, coldchain_intake TO coldchain_backup;
