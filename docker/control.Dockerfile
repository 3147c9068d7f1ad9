# The control plane: web and dispatcher. No torch, no CUDA.
#
#   docker build -f docker/control.Dockerfile -t framefarm-control .
FROM python:3.11-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH="/opt/venv/bin:${PATH}"
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY orchestrator ./orchestrator
COPY workers ./workers
COPY web ./web
COPY models ./models
RUN pip install --constraint constraints.txt ".[postgres,s3,oidc]"


FROM python:3.11-slim-bookworm

# The files of a farm belong to this user; its number is fixed so that volumes can be prepared.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin farm \
    && install --directory --owner farm --group farm --mode 0750 /var/lib/framefarm
COPY --from=build /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/framefarm \
    FARM_HOME=/var/lib/framefarm \
    FARM_LOG_FORMAT=json
USER 10001
WORKDIR /var/lib/framefarm
VOLUME ["/var/lib/framefarm"]
EXPOSE 8080
CMD ["gunicorn", "web.app:create_app()", "--config", "python:web.serving", \
     "--bind", "0.0.0.0:8080", "--graceful-timeout", "10"]
