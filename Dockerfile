# An image of gripd. See docs/install.md. No container engine was at hand when this file was written: it has been checked by
# hadolint, but not built.

FROM rust:1.95-bookworm AS build
# The image has this version only, and rust-toolchain.toml would make cargo download another.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN cargo build --locked --release && strip target/release/gripd && packaging/notices >/copyright

FROM debian:bookworm-slim
COPY --from=build /src/target/release/gripd /usr/bin/gripd
COPY --from=build /copyright /usr/share/doc/gripd/copyright
COPY packaging/docker/healthcheck /usr/local/bin/healthcheck
COPY packaging/docker/gripd.toml /etc/gripd/gripd.toml
# The user and the group with this number have no name, no home and no other files.
RUN install -d -o 7999 -g 7999 /var/lib/gripd
USER 7999:7999
VOLUME /var/lib/gripd
# The first port is for clients, and the second for publishers.
EXPOSE 7999 5561
HEALTHCHECK --interval=10s --timeout=3s CMD ["healthcheck"]
ENTRYPOINT ["/usr/bin/gripd"]
CMD ["--config", "/etc/gripd/gripd.toml"]
