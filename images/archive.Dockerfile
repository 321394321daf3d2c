# The archive, from the repository's root: docker build -f images/archive.Dockerfile .
# The first stage is that of the services, so they share its layer. Builds with BuildKit and with the classic builder.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
COPY images/services.lock /tmp/packages.lock
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action ignore --only-binary :all: --require-hashes --requirement /tmp/packages.lock \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib

FROM ${BASE}
# Who may write to /app: nobody but root. `skaffold dev` gives it to the service's user, to sync files into it.
ARG OWNER=0
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidings-archive" \
      org.opencontainers.image.description="Archive of events and dead letters, with replays and a console" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# With DEBUGGER=1 there is debugpy, for the chart's value dev.debug.
ARG DEBUGGER=
COPY --from=packages /opt/venv /opt/venv
COPY images/debugger.lock /tmp/debugger.lock
RUN if [ -n "${DEBUGGER}" ]; then pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --root-user-action ignore --only-binary :all: --require-hashes --requirement /tmp/debugger.lock; fi \
 && rm /tmp/debugger.lock
COPY kit/src/ plan/src/ archive/src/ /app/
RUN /opt/venv/bin/python -m compileall -q /app \
 && mkdir /data && chown 10001:10001 /data \
 && if [ "${OWNER}" != 0 ]; then chown -R "${OWNER}:${OWNER}" /app; fi
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TIDINGS_DATA=/data \
    UVICORN_APP=tidings_archive.main:app UVICORN_PORT=8080 UVICORN_LIFESPAN=on \
    UVICORN_ACCESS_LOG=false UVICORN_LOG_LEVEL=warning UVICORN_HTTP=tidings.web.protocol:BoundedProtocol \
    UVICORN_PROXY_HEADERS=false \
    # An open event stream to a browser must not hold a stop for ever.
    UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN=5
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['UVICORN_PORT'] + '/healthz', timeout=2)"]
# All addresses, of IPv4 and IPv6. An empty variable would mean the default.
CMD ["python", "-m", "uvicorn", "--host", ""]
