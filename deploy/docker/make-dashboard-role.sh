#!/usr/bin/env bash
# Runs once, in a new database: the role of the dashboards may log in. The nodes' migrations give it the views.
set -euo pipefail
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 \
  --set password="$POP_DASHBOARD_PASSWORD" <<<"CREATE ROLE pop_dashboard LOGIN PASSWORD :'password';"
