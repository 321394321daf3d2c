# KEDA's operator and its metrics server under the names of the published images, where no registry can be reached; the
# context holds both programs: make e2e-keda
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY operator /keda
COPY adapter /usr/local/bin/keda-adapter
USER 65532:65532
