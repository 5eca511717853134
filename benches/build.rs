//! Generates the bare service that the `commands` and `tensors` benches compare with. Its messages are written by hand in
//! `src/ours/bare.rs`, so that a payload stays bytes.

use tonic_build::manual::{Builder, Method, Service};

const MESSAGE: &str = "crate::ours::bare::Raw";

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(MESSAGE)
            .output_type(MESSAGE)
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .name("Bare")
        .package("gradtape.bench")
        .method(method("exchange", "Exchange").client_streaming().server_streaming().build())
        .method(method("upload", "Upload").client_streaming().build())
        .method(method("download", "Download").server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
}
