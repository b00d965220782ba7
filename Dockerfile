# syntax=docker/dockerfile:1
# docker build -t llm-server .                                        hosted providers and the embedded engine
# docker build -t llm-server --build-arg MODEL=smollm2-135m .         and its model inside the image
# docker build -t llm-server --build-arg PACKAGES=base .              hosted providers only
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY locks/ locks/
ARG PACKAGES=local
RUN python -m pip install --require-hashes --no-deps -r locks/build.txt \
 && python -m venv /opt/llm-server \
 && /opt/llm-server/bin/python -m pip install --require-hashes --no-deps -r locks/${PACKAGES}.txt
COPY pyproject.toml README.md LICENSE ./
COPY src/ src/
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/llm-server/bin/python -m pip install --no-deps dist/*.whl
ARG MODEL=""
ENV XDG_DATA_HOME=/data
RUN mkdir -p /data && if [ -n "$MODEL" ]; then /opt/llm-server/bin/llm-server models install "$MODEL"; fi

FROM python:${PYTHON}-slim
# The embedded engine is linked against the OpenMP runtime, which the slim image lacks.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin llm-server
COPY --from=build /opt/llm-server /opt/llm-server
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/opt/llm-server/bin:$PATH XDG_DATA_HOME=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    LLM_SERVER__SERVER__HOST=0.0.0.0 LLM_SERVER__SERVER__PORT=8000
USER 10001:10001
WORKDIR /data
EXPOSE 8000
# Alive, not ready: an upstream that is down is no reason to replace the container.
# The port is a variable, not a flag: with `-e LLM_SERVER__SERVER__PORT` both the server and this follow it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/health/live' % os.environ['LLM_SERVER__SERVER__PORT'], timeout=4)"]
ENTRYPOINT ["llm-server"]
CMD ["serve"]
