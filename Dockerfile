# The demo on a CPU; docs/how-to/install.md has the commands.
FROM python:3.12-slim

WORKDIR /demo
# The address of torch's CPU builds, from pytorch.org/get-started; empty: the CUDA build.
ARG TORCH_INDEX
COPY . .
# jinja2, librosa and scipy are what the demo's report needs of the extra eval.
RUN python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6" \
    && python -m pip install --no-cache-dir ".[audio,train]" jinja2 librosa scipy

ENV OMP_WAIT_POLICY=PASSIVE WAVENET_CACHE=/tmp/wavenet
CMD ["python", "recipes/demo/demo.py", "--out", "demo-out"]
