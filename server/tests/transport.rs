//! The settings of the transport, read from a raw socket: tonic leaves several of them unlimited unless told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use gradtape_server::{config::Config, server::Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length 0, type 4, no flags, stream 0.
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that runs until the test ends.
async fn server(mut config: Config) -> SocketAddr {
    config.listen.address.set_port(0);
    let server = Server::bind(config).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    address
}

/// Reads frames until the type is the wanted one.
async fn payload_of(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if header[3] == wanted {
            return payload;
        }
    }
}

#[tokio::test]
async fn the_settings_frame_limits_streams_windows_and_headers() {
    let mut stream = TcpStream::connect(server(Config::default()).await).await.unwrap();
    stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
    let settings: HashMap<u16, u32> = payload_of(&mut stream, 4)
        .await
        .chunks_exact(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
        .collect();
    // RFC 9113, section 6.5.2: 3 is MAX_CONCURRENT_STREAMS, 4 INITIAL_WINDOW_SIZE, 5 MAX_FRAME_SIZE, 6
    // MAX_HEADER_LIST_SIZE.
    assert_eq!(settings.get(&3), Some(&16));
    assert_eq!(settings.get(&4), Some(&(256 << 10)));
    assert_eq!(settings.get(&5), Some(&(64 << 10)));
    assert_eq!(settings.get(&6), Some(&(16 << 10)));
    // The connection's window comes as an increment of the protocol's 65,535.
    let increment = payload_of(&mut stream, 8).await;
    assert_eq!(increment, ((32 << 20) - 65_535_u32).to_be_bytes());
}

#[tokio::test]
async fn a_silent_and_a_half_open_connection_are_closed() {
    let mut config = Config::default();
    config.transport.handshake_timeout = Duration::from_millis(50);
    let address = server(config).await;
    for said in [&[], &PREFACE[..10]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        // Closed or reset; either way it is over.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    let address = server(Config::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
    assert!(!payload_of(&mut other, 4).await.is_empty());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let mut config = Config::default();
    config.transport.max_connections = 1;
    let address = server(config).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
    payload_of(&mut first, 4).await;
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, second.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    drop(first);
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_consent() {
    let mut config = Config::default();
    config.listen.address = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(Server::bind(config.clone()).await.is_err());
    config.listen.insecure = true;
    assert!(Server::bind(config).await.is_ok());
}
