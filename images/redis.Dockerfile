# Debian 12's Redis, for a cluster that reaches no registry: make server-images. The chart names a published image.
# Debian keeps the number 7.0.15 and corrects what is known: 5:7.0.15-1~deb12u6 corrects CVE-2025-49844, and
# 5:7.0.15-1~deb12u10 CVE-2026-81934 (the package's changelog). The build fails with an older package.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN echo "deb http://deb.debian.org/debian-security bookworm-security main" > /etc/apt/sources.list.d/corrections.list \
 && apt-get update \
 && RUNLEVEL=1 apt-get install --yes --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* \
 && dpkg --compare-versions "$(dpkg-query --show --showformat '${Version}' redis-server)" ge 5:7.0.15-1~deb12u10 \
 && mkdir -p /data && chown 999:999 /data
WORKDIR /data
USER 999:999
ENTRYPOINT []
CMD ["redis-server"]
