# The server in an image that holds nothing else: one static binary, and whom it trusts. No shell, no root.
#
#   docker build -t gradtape .
#   docker run --rm -p 127.0.0.1:50051:50051 gradtape
#
# Every engine builds it, with BuildKit and without. scripts/engine-test.sh tests it.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The C library goes into the binary. glibc's and not musl's: its memory functions are the faster ones, and since 2.34 it
# looks up names by DNS and /etc/hosts without loading anything.
# Functions of the same instructions are there once, and the places that depend on where the program lies are listed as bits:
# 1.3 MB less.
ENV RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,--icf=all,-z,pack-relative-relocs" \
    CARGO_PROFILE_RELEASE_STRIP=symbols
# As in --build-arg FEATURES=aws, for checkpoints and copies of sessions in buckets; the image is larger then.
ARG FEATURES=
# With a target, the flags are for what runs on it and not for the macros that run within the compiler.
RUN target=$(rustc --print host-tuple) \
    && cargo build --release --locked --package gradtape-server --bin gradtape --features "$FEATURES" --target "$target" \
    && install -D --mode=0755 --target-directory=/image/usr/local/bin "target/$target/release/gradtape" \
    && install -D --mode=0644 --target-directory=/image/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    && install --directory --mode=0755 /image/var/lib \
    && install --directory --mode=0700 /state/gradtape

FROM scratch
LABEL org.opencontainers.image.title="gradtape" \
      org.opencontainers.image.description="A gradient tape as a network service" \
      org.opencontainers.image.licenses="Apache-2.0"
# Root's, so that the server cannot change itself; only the state is its own.
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /state/ /var/lib/
# On the volume below.
ENV GRADTAPE_CHECKPOINT_STORE=/var/lib/gradtape/checkpoints GRADTAPE_SESSION_STORE=/var/lib/gradtape/sessions
USER 65532:65532
WORKDIR /var/lib/gradtape
VOLUME /var/lib/gradtape
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=5s --retries=5 \
    CMD ["/usr/local/bin/gradtape", "healthcheck", "127.0.0.1:50051"]
ENTRYPOINT ["/usr/local/bin/gradtape"]
# Inside a container loopback reaches nobody. This server is open, so publish the port on the host's loopback only, as
# docker-compose.yml does; deploy/README.md has one with TLS and tokens.
CMD ["serve", "--listen", "0.0.0.0:50051", "--insecure-bind", "--log-format", "json"]
