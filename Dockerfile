# One image for our Python programs: exporter, remediation, and the demo's companion, faulty_llm and load.
# `docker run llmvitals:0.1.0 llmvitals_exporter --help`

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/llmvitals

# The dependencies first: they change less often than our code.
COPY constraints.txt ./
RUN /opt/llmvitals/bin/pip install --require-hashes --requirement constraints.txt

COPY pyproject.toml README.md LICENSE ./
COPY instrumentation instrumentation
COPY exporter exporter
COPY remediation remediation
COPY stack stack
COPY examples examples
RUN /opt/llmvitals/bin/pip install --no-deps --no-build-isolation . \
 && python -m compileall -q /opt/llmvitals/lib


FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="llmvitals" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/llmvitals /opt/llmvitals
# A named volume takes over the owner of the folder that it covers: data, and the socket of a supervisor.
RUN groupadd --gid 10001 llmvitals \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin llmvitals \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data /run/llmvitals
# Nothing is written beside the code, which is read-only; logs leave line by line.
ENV PATH=/opt/llmvitals/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["llmvitals_exporter", "--help"]
