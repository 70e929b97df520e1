# syntax=docker/dockerfile:1
# docker build --target cpu -t tureen .     docker run -p 8080:8080 -p 8081:8081 -e TUREEN_API_KEY=secret tureen
# docker build --target cuda -t tureen .    the same with: docker run --gpus all
# It listens on every address of the container, so it wants a key, or -e TUREEN_INSECURE_NO_KEY=true.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
RUN pip install --no-cache-dir build==1.6.1
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY service service
COPY training training
RUN python -m build --wheel --outdir /dist

FROM python:${PYTHON}-slim AS runtime
# Nothing is written at run time but under /tmp: the root file system may be read-only.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    HOME=/tmp TUREEN_MODELS=/models TUREEN_HOST=0.0.0.0 TUREEN_HTTP_PORT=8080
RUN groupadd --gid 10001 tureen && useradd --no-create-home --home-dir /tmp --uid 10001 --gid 10001 tureen
COPY --from=wheel /dist/*.whl /dist/
COPY constraints.txt /dist/
COPY service/models /models
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TUREEN_HTTP_PORT\"]}/readyz', timeout=2)"]
ENTRYPOINT ["tureen"]
CMD ["serve", "grounded-qa"]

FROM runtime AS cpu
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu \
      --constraint /dist/constraints.txt "$(ls /dist/*.whl)[server,torch,onnx,offline]"
USER 10001:10001

FROM runtime AS cuda
# PyPI's torch for Linux is built for CUDA; only the index above has one without.
RUN pip install --constraint /dist/constraints.txt "$(ls /dist/*.whl)[server,torch,onnx-gpu,offline]"
USER 10001:10001
