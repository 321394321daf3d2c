# Debian's RabbitMQ under the name of the published image of that release, where no registry can be reached.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN groupadd --system --gid 999 rabbitmq \
 && useradd --system --uid 999 --gid rabbitmq --home-dir /var/lib/rabbitmq rabbitmq \
 && apt-get update \
 && RUNLEVEL=1 apt-get install --yes --no-install-recommends rabbitmq-server \
 && rm -rf /var/lib/apt/lists/* /var/lib/rabbitmq/.erlang.cookie
ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/bin:/usr/bin:/bin HOME=/var/lib/rabbitmq RABBITMQ_LOGS=-
USER 999:999
ENTRYPOINT ["rabbitmq-server"]
