# Somebody else's systems, played: the loyalty SaaS and a mail server. The command says which: python saas.py | smtp.py
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
COPY images/services.lock /tmp/packages.lock
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action ignore --only-binary :all: --require-hashes --requirement /tmp/packages.lock \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pizza-simulators" \
      org.opencontainers.image.description="Plant-Based Pizza: a loyalty SaaS and a mail server, played" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=packages /opt/venv /opt/venv
COPY simulators/ /app/
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001
EXPOSE 8080 2525
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/control', timeout=2)"]
CMD ["python", "saas.py", "--host", "", "--port", "8080"]
