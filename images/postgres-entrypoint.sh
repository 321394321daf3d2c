#!/bin/sh
# Makes the database cluster where there is none, on no port, runs the SQL files given for it, and serves.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
  initdb --pgdata "$PGDATA" --username postgres --encoding UTF8 --locale C.UTF-8 --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl --pgdata "$PGDATA" --options '-c listen_addresses=' --wait start
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --username postgres --no-psqlrc --set ON_ERROR_STOP=1 --file "$file"
  done
  pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
fi
exec postgres -D "$PGDATA" -c 'listen_addresses=*' "$@"
