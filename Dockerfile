# One image with every program of Drover. `docker build -t drover .`
#
# Stage one compiles; it needs Deno's download host for the small runtime that binaries are made of.
FROM denoland/deno:debian-2.9.6 AS build
WORKDIR /src
COPY deno.json deno.lock ./
RUN deno install --frozen
COPY . .
RUN deno task build

# The programs that the data path calls on the host's behalf, and nothing else: iscsiadm, mount.nfs, nsenter, mkfs.
FROM debian:12-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends \
    ca-certificates e2fsprogs nfs-common open-iscsi util-linux xfsprogs \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/build/ /usr/local/bin/
COPY LICENSE /usr/share/doc/drover/
# There is no default program: a pod names the one it runs.
CMD ["drover", "--help"]
