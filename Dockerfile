# The lessons in JupyterLab, without CUDA:
#     docker build --tag xbl-kit .
#     docker run --rm --publish 8888:8888 --volume "$PWD/work:/home/student/work" xbl-kit
# What a student writes lands in work/ on the host, which must be writable for user 1000.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 student
WORKDIR /opt/xbl-kit
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu ".[lab]" \
    && rm -rf build

USER student
WORKDIR /home/student
ENV OMP_NUM_THREADS=1
EXPOSE 8888
CMD ["sh", "-c", "xbl-kit lessons work && exec jupyter lab --ip=0.0.0.0 --no-browser --notebook-dir=work"]
