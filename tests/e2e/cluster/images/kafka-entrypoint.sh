#!/bin/sh
# Starts Kafka with the settings that the environment has: KAFKA_NODE_ID stands for node.id.
set -eu
env | sed -n 's/^KAFKA_\([A-Z_]*\)=\(.*\)/\1 \2/p' | while read -r name value; do
  [ "$name" = HEAP_OPTS ] || printf '%s=%s\n' "$(printf %s "$name" | tr 'A-Z_' 'a-z.')" "$value"
done >/tmp/server.properties
printf 'log.dirs=/var/lib/kafka/data\n' >>/tmp/server.properties
run() { java ${KAFKA_HEAP_OPTS-} -Dlog4j2.level=ERROR -cp '/opt/kafka/libs/*' "$@"; }
[ -f /var/lib/kafka/data/meta.properties ] || run kafka.tools.StorageTool format -t "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" -c /tmp/server.properties
exec java ${KAFKA_HEAP_OPTS-} -Dlog4j2.level=ERROR -cp '/opt/kafka/libs/*' kafka.Kafka /tmp/server.properties
