# sender and receiver of tests/chaos/numbered, on a service's image: docker build -f … tests/chaos/numbered/services
ARG BASE
FROM ${BASE}
COPY sender/src/ receiver/src/ /app/
