#!/bin/sh
# Prints fresh secrets for docker-compose.yaml:   sh compose/env.sh >.env
set -eu
random() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
echo "MONAI_PASSWORD=$(random 9)"
echo "MONAI_DATABASE_PASSWORD=$(random 16)"
echo "MONAI_FERNET_KEY=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
echo "MONAI_JWT_SECRET=$(random 48)"
