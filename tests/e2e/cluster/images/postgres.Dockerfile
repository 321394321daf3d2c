# Debian's PostgreSQL under the name of the published image of that release, where no registry can be reached; it keeps
# as much of that image's contract as the chart pizza uses: docker build -f … tests/e2e/cluster/images
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN groupadd --system --gid 999 postgres \
 && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql postgres \
 && apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-15 \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin
COPY postgres-entrypoint.sh /usr/local/bin/
USER 999:999
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint.sh"]
