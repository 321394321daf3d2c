# Kafka from Maven Central under the name of the published image, where no registry can be reached; `tidings tools kafka` has
# obtained the jars, which are in the folder jars of the context: make e2e-backends
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN groupadd --system --gid 1000 appuser \
 && useradd --system --uid 1000 --gid appuser --no-create-home appuser \
 && apt-get update \
 && mkdir -p /usr/share/man/man1 \
 && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /var/lib/kafka/data && chown appuser:appuser /var/lib/kafka/data
COPY jars/ /opt/kafka/libs/
COPY kafka-entrypoint.sh /usr/local/bin/
USER 1000:1000
ENTRYPOINT ["kafka-entrypoint.sh"]
