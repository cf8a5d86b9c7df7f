# mitmproxy where its image cannot be pulled: the package, in an environment of its own, on Debian.
ARG BASE=debian:12.11-slim
FROM ${BASE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/mitmproxy
ENV PATH=/opt/mitmproxy/bin:$PATH
RUN pip install --quiet --no-cache-dir mitmproxy==11.0.2
CMD ["mitmdump"]
