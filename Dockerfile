# The controller's image: docker build --tag REGISTRY/tonnage:TAG .
# The build takes 12 GB of memory, most of it for the AWS SDK.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --features aws --bin tonnage

FROM debian:bookworm-slim
# What EC2's and the API server's certificates are checked against.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/tonnage /usr/local/bin/tonnage
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tonnage"]
