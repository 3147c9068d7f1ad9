# A worker: Celery, torch, FFmpeg. One file for GPUs and CPUs; they differ in torch's wheels.
#
#   docker build -f docker/worker.Dockerfile -t framefarm-worker-gpu .
#   docker build -f docker/worker.Dockerfile -t framefarm-worker-cpu \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#
# The CUDA libraries come with torch's wheels; the host brings the driver and the NVIDIA
# Container Toolkit. FFmpeg comes with the package imageio-ffmpeg (GPL-3, see NOTICE).
FROM python:3.11-slim-bookworm AS build

ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH="/opt/venv/bin:${PATH}"
WORKDIR /src
COPY constraints.txt ./
# First and alone, so that no other index can offer another torch.
RUN pip install --constraint constraints.txt --index-url "${TORCH_INDEX}" torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY orchestrator ./orchestrator
COPY workers ./workers
COPY web ./web
COPY models ./models
RUN pip install --constraint constraints.txt ".[worker]"


FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin farm \
    && install --directory --owner farm --group farm --mode 0750 /var/lib/framefarm
COPY --from=build /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/framefarm \
    FARM_HOME=/var/lib/framefarm \
    FARM_LOG_FORMAT=json \
    HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /var/lib/framefarm
VOLUME ["/var/lib/framefarm"]
CMD ["python", "-m", "workers.entry", "--home", "/var/lib/framefarm"]
