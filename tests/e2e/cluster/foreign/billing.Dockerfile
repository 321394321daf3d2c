# The Node service of tests/e2e/data/node, without any package: docker build -f … tests/e2e/data/node/billing
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*
COPY server.mjs /app/
USER 10001:10001
CMD ["node", "/app/server.mjs", "8080", "/data"]
