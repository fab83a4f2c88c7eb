# robustbench-med with every plugin, for machines without a GPU:
#
#   docker build -t robustbench-med .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" robustbench-med run --defense medfedpure --attack apgd
#
# With a GPU: --build-arg TORCH=auto on a machine that has one, and `docker run --gpus all`.
FROM python:3.12-slim

ARG TORCH=cpu
COPY . /src
# --no-sources: as members of a workspace the packages would be installed editable, from the folder that is removed.
RUN pip install --no-cache-dir uv \
 && uv pip install --system --no-cache --no-sources --torch-backend "$TORCH" --constraint /src/constraints.txt /src /src/plugins/rbmed-* \
 && rm -rf /src

# Results and caches belong to the mounted folder and to whoever --user names: nothing is written as root.
RUN useradd --no-create-home rbmed && mkdir /data && chown rbmed /data
USER rbmed
ENV RBMED_HOME=/data/.rbmed HOME=/tmp
WORKDIR /data
ENTRYPOINT ["rbmed"]
CMD ["--help"]
