# toxiproxy where its image cannot be pulled: server and command line, built by Go, on Debian.
ARG BASE=debian:12.11-slim
FROM ${BASE}
COPY toxiproxy toxiproxy-cli /
ENTRYPOINT ["/toxiproxy"]
CMD ["-host=0.0.0.0"]
