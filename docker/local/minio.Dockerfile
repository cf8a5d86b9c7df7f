# MinIO where its image cannot be pulled: the binary that `midstream install minio` has built, on Debian.
ARG BASE=debian:12.11-slim
FROM ${BASE}
COPY minio /usr/bin/minio
VOLUME /data
ENTRYPOINT ["minio"]
