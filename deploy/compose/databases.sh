#!/bin/sh
# Run once by the image of PostgreSQL, when its volume is empty: databases and roles, as ../postgresql/databases.sql has them.
set -eu
COLDCHAIN_DB_PASSWORD=$(cat /run/secrets/database_password) COLDCHAIN_BACKUP_PASSWORD=$(cat /run/secrets/backup_password) \
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --file /etc/coldchain/databases.sql
