# Debian 12's PostgreSQL, for a cluster that reaches no registry: make server-images. The chart names a published image; this
# one keeps as much of its contract as the chart pizza uses.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN groupadd --system --gid 999 postgres \
 && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql postgres \
 && apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-15 \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin
COPY images/postgres-entrypoint.sh /usr/local/bin/
USER 999:999
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint.sh"]
