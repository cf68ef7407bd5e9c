# The bastion for a cluster: what runs and nothing else, as a user without a name, on a root that is never written.
FROM python:3.11-slim-bookworm AS build
WORKDIR /opt/bastion
RUN python -m venv /opt/venv
COPY requirements.lock pyproject.toml ./
# Fetched with the hashes of the lock file; of that, only what the program itself needs is installed.
RUN pip download --quiet --require-hashes -r requirements.lock -d /wheels
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
      print(*p["project"]["dependencies"], *p["build-system"]["requires"], sep="\n")' > runtime.txt \
 && /opt/venv/bin/pip install --no-cache-dir --no-index --find-links /wheels -r runtime.txt
COPY LICENSE README.md ./
COPY migrations migrations
COPY bastion bastion
RUN /opt/venv/bin/pip install --no-cache-dir --no-build-isolation --no-deps -e .

FROM python:3.11-slim-bookworm
COPY --from=build /opt /opt
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
EXPOSE 2222
ENTRYPOINT ["bastion"]
CMD ["serve"]
