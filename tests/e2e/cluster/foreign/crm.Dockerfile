# A Python service with dapr-ext-fastapi and without Tidings: docker build -f … tests/e2e/cluster/foreign
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: \
        dapr==1.18.3 dapr-ext-fastapi==1.18.3 uvicorn==0.54.0
COPY crm.py /app/
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["uvicorn", "crm:app", "--port", "8080"]
