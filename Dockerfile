# The server in a small image that runs as nobody in particular.
#
#   docker build -t gradtape .
#   docker run --rm -p 127.0.0.1:50051:50051 gradtape
#
# Both stages are of the same Debian release, so that the binary finds the C library that it was linked to.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package gradtape-server --bin gradtape

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="gradtape" \
      org.opencontainers.image.description="A gradient tape as a network service" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 65532 gradtape \
    && useradd --system --uid 65532 --gid gradtape --no-create-home --shell /usr/sbin/nologin gradtape \
    && install --directory --owner=gradtape --group=gradtape --mode=0700 /var/lib/gradtape
COPY --from=build /src/target/release/gradtape /usr/local/bin/gradtape
# On the volume below.
ENV GRADTAPE_CHECKPOINT_STORE=/var/lib/gradtape/checkpoints
USER 65532:65532
WORKDIR /var/lib/gradtape
VOLUME /var/lib/gradtape
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
    CMD ["gradtape", "healthcheck", "127.0.0.1:50051"]
ENTRYPOINT ["gradtape"]
# Inside a container loopback reaches nobody. This server is open, so publish the port on the host's loopback only, as
# docker-compose.yml does; deploy/README.md has one with TLS and tokens.
CMD ["serve", "--listen", "0.0.0.0:50051", "--insecure-bind", "--log-format", "json"]
