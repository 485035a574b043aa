#!/bin/sh
# Makes what the services need before they start, where it is missing; run again at every `up`, and for every new gateway.
# As root, since secrets of the host belong to whoever runs the engine; what it leaves belongs to who reads it.
set -eu
data=/var/lib/coldchain
as_coldchain() { setpriv --reuid=coldchain --regid=coldchain --clear-groups "$@"; }

umask 077
printf 'database:5432:*:coldchain:%s\n' "$(cat /run/secrets/database_password)" >$data/pgpass
chown coldchain: $data/pgpass
as_coldchain coldchain init /etc/coldchain
if [ -s /run/secrets/wechat_secret ]; then
  as_coldchain sed -i "s/\"wechat_secret\": \"[^\"]*\"/\"wechat_secret\": \"$(cat /run/secrets/wechat_secret)\"/" $data/secrets.json
fi
until as_coldchain coldchain telemetry init; do sleep 2; done

# For the broker, whose user has another number in its image: a volume that only it has.
install -d -m 755 /run/broker
as_coldchain coldchain broker-passwords >/run/broker/passwords.new
cat /etc/certs/cold.example.org.key >/run/broker/broker.key.new
for file in passwords broker.key; do
  chmod 644 /run/broker/$file.new
  mv /run/broker/$file.new /run/broker/$file
done
