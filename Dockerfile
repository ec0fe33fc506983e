# The sink: docker build -t entrenar-otel-sink . ; docker-compose.yml does it by itself.
ARG PYTHON_IMAGE=python:3.13-slim

# What it needs, as a list: while that stays the same, nothing of it is installed anew.
FROM ${PYTHON_IMAGE} AS needed
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['otlp'], sep='\n')" >/needed.txt

FROM ${PYTHON_IMAGE} AS build
# Where pip looks, if not where it always does; this stage, with what it was told, is left behind.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY --from=needed /needed.txt ./
RUN python3 -m venv /opt/entrenar && /opt/entrenar/bin/pip install --no-cache-dir -r needed.txt
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY entrenar_otel entrenar_otel
COPY processors processors
COPY native native
RUN /opt/entrenar/bin/pip install --no-cache-dir --no-deps . && /opt/entrenar/bin/pip uninstall -q -y pip setuptools

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/entrenar /opt/entrenar
# Volumes take owner and mode of the folders that they cover; state is kept by whoever the sink runs as.
RUN mkdir -p /data/lake /data/state && chown -R 10001:10001 /data && chmod 1777 /data/state
ENV PATH=/opt/entrenar/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    ENTRENAR_LAKE=/data/lake
USER 10001:10001
EXPOSE 4317 4318
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["python3", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4318/healthz', timeout=4)"]
# Heard by its own network only: what is published, and with which token, whoever starts it says.
ENTRYPOINT ["entrenar-otel"]
CMD ["sink", "--state", "/data/state", "--grpc", "0.0.0.0:4317", "--http", "0.0.0.0:4318", "--insecure"]
