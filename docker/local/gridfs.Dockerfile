# A server of MongoDB's wire protocol where no mongod can be pulled: FerretDB on SQLite, on Debian.
ARG BASE=debian:12.11-slim
FROM ${BASE}
COPY gridfs-server mongod /usr/local/bin/
