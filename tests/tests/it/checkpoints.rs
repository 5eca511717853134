//! Checkpoints: exact to the bit, all or nothing, and safe from hostile files and names.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use futures::stream;
use gradtape_client::{
    Attribute, Code, Error, Generator, Optimizer, RestoreOptions, SaveOptions, Session, TensorData,
    Variable,
    proto::{
        self, ListOptimizersRequest, catalog_service_client::CatalogServiceClient,
        checkpoint_service_client::CheckpointServiceClient, command::Kind, reply,
        upload_checkpoint_request::Kind as Part,
    },
};
use gradtape_tests::{
    Server,
    raw::{Raw, channel, command, constant, elements, error, fetch, reason},
};
use safetensors::SafeTensors;
use tempfile::TempDir;

/// A server whose checkpoints are in a folder.
async fn server_in(folder: &Path) -> Server {
    let place = folder.to_str().expect("a path in UTF-8").to_owned();
    Server::start_with(|config| config.checkpoints.store = Some(place)).await
}

async fn server() -> (TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server_in(folder.path()).await;
    (folder, server)
}

/// A matrix, a vector, an optimizer and a generator.
struct Model {
    matrix: Variable,
    vector: Variable,
    optimizer: Optimizer,
    generator: Generator,
}

impl Model {
    fn new(session: &Session, optimizer: &str, hyperparameters: &[(&str, Attribute)]) -> Self {
        let matrix = TensorData::new([2, 3], &[0.5f32, -1.0, 2.0, 0.25, 3.0, -0.75]);
        let given = hyperparameters.iter().map(|(name, value)| (*name, value.clone()));
        Self {
            matrix: session.variable("matrix", matrix),
            vector: session.variable("vector", [1.0f32, -2.0, 0.5]),
            optimizer: Optimizer::named(session, optimizer, given, None),
            generator: session.generator(42),
        }
    }

    /// Steps whose gradients come from the generator and from the variables themselves.
    fn train(&self, session: &Session, steps: usize) {
        for _ in 0..steps {
            let noise = self.generator.normal([2, 3]);
            let tape = session.tape();
            let difference = &(&self.matrix.read() * &noise) - &self.vector.read();
            let loss = (&difference * &difference).reduce_sum();
            let gradients = tape.gradient([&loss], [&self.matrix, &self.vector]);
            let _step = self.optimizer.apply(gradients.iter().zip([&self.matrix, &self.vector]));
        }
    }
}

/// The bytes of every tensor of a file, by key.
fn tensors(file: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = SafeTensors::deserialize(file).expect("a valid file");
    file.tensors().into_iter().map(|(key, view)| (key, view.data().to_vec())).collect()
}

/// In the middle of accumulating, averaging, and on the way to the next loss scale.
fn stages() -> Vec<(&'static str, Attribute)> {
    vec![
        ("use_ema", true.into()),
        ("gradient_accumulation_steps", 3.into()),
        ("dynamic_loss_scale", true.into()),
        ("initial_scale", 8.0.into()),
        ("dynamic_growth_steps", 4.into()),
    ]
}

async fn optimizers(server: &Server) -> Vec<String> {
    let mut catalog = CatalogServiceClient::new(channel(server).await);
    let answer = catalog.list_optimizers(ListOptimizersRequest {}).await.expect("an answer");
    answer.into_inner().optimizers.into_iter().map(|optimizer| optimizer.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_in_a_new_session_to_the_bit_with_every_optimizer() {
    let (_folder, server) = server().await;
    let momentum = vec![("momentum", 0.9.into()), ("nesterov", true.into())];
    let mut cases: Vec<(String, Vec<_>)> =
        optimizers(&server).await.into_iter().map(|name| (name, stages())).collect();
    assert!(cases.len() > 10, "{cases:?}");
    cases.push(("sgd".to_owned(), momentum));
    for (kind, hyperparameters) in cases {
        let first = server.session().await;
        let model = Model::new(&first, &kind, &hyperparameters);
        model.train(&first, 10);
        let saved = first.checkpoints().save("halfway", SaveOptions::default().overwrite()).await;
        let saved = saved.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(saved.checkpoint.name, "halfway");
        model.train(&first, 10);
        let options = || SaveOptions::default().overwrite();
        first.checkpoints().save("first", options()).await.expect("saved");

        let second = server.session().await;
        let model = Model::new(&second, &kind, &[]);
        model.train(&second, 1);
        let restored = second.checkpoints().restore("halfway", RestoreOptions::default()).await;
        let restored = restored.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((restored.variables, restored.optimizers, restored.generators), (2, 1, 1));
        model.train(&second, 10);
        second.checkpoints().save("second", options()).await.expect("saved");

        let [first, second] = [
            second.checkpoints().download("first").await.expect("a file"),
            second.checkpoints().download("second").await.expect("a file"),
        ];
        assert_eq!(tensors(&first), tensors(&second), "{kind}");
        assert!(tensors(&first).contains_key("optimizer.0.iterations"), "{kind}");
    }
}

#[tokio::test]
async fn a_mismatch_lists_everything_and_changes_nothing() {
    let (_folder, server) = server().await;
    let first = server.session().await;
    let model = Model::new(&first, "adam", &[]);
    model.train(&first, 2);
    first.checkpoints().save("adam", SaveOptions::default()).await.expect("saved");

    let second = server.session().await;
    let matrix = second.variable("matrix", [1.0f64, 2.0]);
    let other = second.variable("other", [3.0f32]);
    let _optimizer = Optimizer::named(&second, "lion", [("weight_decay", 0.1.into())], None);
    let failed = second.checkpoints().restore("adam", RestoreOptions::default()).await;
    let failed = failed.expect_err("nothing fits");
    let failure = failed.failure().expect("a failed command");
    assert_eq!(
        (failure.code, &failure.reason[..]),
        (Code::FailedPrecondition, "CHECKPOINT_MISMATCH")
    );
    for part in [
        "variable \"matrix\" is float32[2, 3] in the checkpoint and float64[2] here",
        "variable \"vector\" is only in the checkpoint",
        "variable \"other\" is not in the checkpoint",
        "optimizer \"optimizer.0\" is adam in the checkpoint and lion here",
        "generator \"generator.0\" is only in the checkpoint",
    ] {
        assert!(failure.message.contains(part), "{part} is not in {}", failure.message);
    }
    assert_eq!(matrix.value::<f64>().await.expect("the value"), [1.0, 2.0]);
    assert_eq!(other.value::<f32>().await.expect("the value"), [3.0]);
    second.sync().await.expect("the failure was told");
}

#[tokio::test]
async fn chosen_things_are_restored_from_chosen_keys() {
    let (_folder, server) = server().await;
    let first = server.session().await;
    let model = Model::new(&first, "sgd", &[("momentum", 0.5.into())]);
    model.train(&first, 3);
    let options =
        SaveOptions::default().entry("dense/kernel", &model.matrix).entry("opt", &model.optimizer);
    let saved =
        first.checkpoints().save("part", options.metadata("epoch", "3")).await.expect("saved");
    // The matrix, its momentum, and three numbers of the optimizer.
    assert_eq!(saved.tensors, 5);
    let found = first.checkpoints().describe("part").await.expect("a description");
    assert_eq!(found.metadata["epoch"], "3");
    let keys: Vec<_> = found.tensors.iter().map(|tensor| &tensor.key[..]).collect();
    assert!(keys.contains(&"opt.momentum.dense/kernel"), "{keys:?}");

    let second = server.session().await;
    let other = Model::new(&second, "sgd", &[]);
    let options = RestoreOptions::default()
        .entry("dense/kernel", &other.matrix)
        .entry("opt", &other.optimizer);
    second.checkpoints().restore("part", options).await.expect("restored");
    let expected = model.matrix.value::<f32>().await.expect("the value");
    assert_eq!(other.matrix.value::<f32>().await.expect("the value"), expected);
    assert_eq!(other.vector.value::<f32>().await.expect("the value"), [1.0, -2.0, 0.5]);
}

#[tokio::test]
async fn a_file_of_another_program_restores_weights() {
    let (_folder, server) = server().await;
    let session = server.session().await;
    let model = Model::new(&session, "adam", &[]);
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (matrix, vector) = (floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), floats(&[7.0, 8.0, 9.0]));
    let view = |shape: &[usize], bytes| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes)
            .expect("a tensor")
    };
    let views = [("matrix", view(&[2, 3], &matrix)), ("vector", view(&[3], &vector))];
    let file = Bytes::from(safetensors::serialize(views, None).expect("a file"));
    let checkpoints = session.checkpoints();
    checkpoints.upload("plain", file.clone(), false).await.expect("uploaded");
    let again = checkpoints.upload("plain", file, false).await.expect_err("it is there already");
    assert_eq!(again.reason(), Some("CHECKPOINT_EXISTS"));
    let all = checkpoints.restore("plain", RestoreOptions::default()).await;
    assert_eq!(all.expect_err("no optimizer").reason(), Some("CHECKPOINT_MISMATCH"));
    let options = RestoreOptions::default().weights_only();
    let restored = checkpoints.restore("plain", options).await.expect("restored");
    assert_eq!((restored.variables, restored.optimizers), (2, 0));
    let values = model.matrix.value::<f32>().await.expect("the value");
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(model.vector.value::<f32>().await.expect("the value"), [7.0, 8.0, 9.0]);
}

#[tokio::test]
async fn checkpoints_outlive_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server_in(folder.path()).await;
    let session = server.session().await;
    let variable = session.variable("w", [1.5f32, -0.0]);
    for name in ["b", "a", "c"] {
        session.checkpoints().save(name, SaveOptions::default()).await.expect("saved");
    }
    drop((variable, session));
    server.stopped().await;

    let server = server_in(folder.path()).await;
    let session = server.session().await;
    let variable = session.variable("w", [0.0f32, 0.0]);
    let checkpoints = session.checkpoints();
    let listed = checkpoints.list().await.expect("a list");
    assert_eq!(listed.iter().map(|c| &c.name[..]).collect::<Vec<_>>(), ["a", "b", "c"]);
    checkpoints.restore("b", RestoreOptions::default()).await.expect("restored");
    let values = variable.value::<f32>().await.expect("the value");
    let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
    assert_eq!(bits, [1.5f32.to_bits(), (-0.0f32).to_bits()]);
    checkpoints.delete("b").await.expect("deleted");
    assert_eq!(checkpoints.list().await.expect("a list").len(), 2);
    for gone in [checkpoints.delete("b").await, checkpoints.download("b").await.map(drop)] {
        assert_eq!(gone.expect_err("it is gone").reason(), Some("UNKNOWN_CHECKPOINT"));
    }
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let (_folder, server) = server().await;
    let session = server.session().await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        session.checkpoints().save(name, SaveOptions::default()).await.expect("saved");
    }
    let mut client = CheckpointServiceClient::new(channel(&server).await);
    let (mut found, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = proto::ListCheckpointsRequest { page_size: 2, page_token };
        let page = client.list_checkpoints(request).await.expect("a page").into_inner();
        found.extend(page.checkpoints.into_iter().map(|checkpoint| checkpoint.name));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((&found[..], pages), (&names.map(String::from)[..], 3));
}

#[tokio::test]
async fn a_flipped_bit_is_data_loss_wherever_the_file_is_read() {
    let (folder, server) = server().await;
    let session = server.session().await;
    let variable = session.variable("w", [1.0f32, 2.0, 3.0]);
    session.checkpoints().save("x", SaveOptions::default()).await.expect("saved");
    let path = folder.path().join("anonymous/x.safetensors");
    let good = std::fs::read(&path).expect("the file");
    // In the length, in the header, in the last element; and a file that ends early.
    for position in [1, 20, good.len() - 1] {
        let mut bad = good.clone();
        bad[position] ^= 4;
        std::fs::write(&path, &bad).expect("a broken file");
        is_lost(&session).await;
    }
    std::fs::write(&path, &good[..good.len() - 1]).expect("a short file");
    is_lost(&session).await;
    assert_eq!(variable.value::<f32>().await.expect("the value"), [1.0, 2.0, 3.0]);
    std::fs::write(&path, &good).expect("the good file");
    session.checkpoints().restore("x", RestoreOptions::default()).await.expect("restored");
}

async fn is_lost(session: &Session) {
    let checkpoints = session.checkpoints();
    let restored = checkpoints.restore("x", RestoreOptions::default()).await.map(drop);
    for outcome in [restored, checkpoints.download("x").await.map(drop)] {
        let Err(Error::Refused(refusal)) = outcome else { panic!("not refused: {outcome:?}") };
        assert_eq!((refusal.code, &refusal.reason[..]), (Code::DataLoss, "CHECKPOINT_CORRUPTED"));
    }
}

#[tokio::test]
async fn an_upload_that_is_no_checkpoint_does_not_appear() {
    let (_folder, server) = server().await;
    let session = server.session().await;
    let _variable = session.variable("w", [1.0f32]);
    let checkpoints = session.checkpoints();
    checkpoints.save("good", SaveOptions::default()).await.expect("saved");
    let good = checkpoints.download("good").await.expect("the file");
    let mut changed = good.to_vec();
    *changed.last_mut().expect("a byte") ^= 1;
    for bad in [&b""[..], b"PK\x03\x04 not a checkpoint", &good[..good.len() - 1], &changed] {
        let refused = checkpoints.upload("bad", Bytes::copy_from_slice(bad), true).await;
        let Err(Error::Refused(refusal)) = refused else { panic!("not refused: {refused:?}") };
        assert_eq!(
            (refusal.code, &refusal.reason[..]),
            (Code::InvalidArgument, "INVALID_CHECKPOINT")
        );
    }
    // More, or fewer, bytes than were announced.
    for size_bytes in [good.len() as u64 - 1, good.len() as u64 + 1] {
        let header =
            proto::UploadCheckpointHeader { name: "bad".to_owned(), size_bytes, overwrite: true };
        let parts = [Part::Header(header), Part::Chunk(good.clone())];
        let requests = parts.map(|kind| proto::UploadCheckpointRequest { kind: Some(kind) });
        let mut client = CheckpointServiceClient::new(channel(&server).await);
        let status = client.upload_checkpoint(stream::iter(requests)).await.expect_err("refused");
        assert_eq!(reason(&status), "INVALID_CHECKPOINT");
    }
    assert_eq!(checkpoints.list().await.expect("a list").len(), 1);
    checkpoints.upload("copy", good, false).await.expect("uploaded");
}

#[tokio::test]
async fn names_lead_nowhere_else() {
    let (folder, server) = server().await;
    let session = server.session().await;
    let checkpoints = session.checkpoints();
    for name in ["../up", "a/b", "", "..", "/etc/passwd", "a\0", ".x", &"n".repeat(129)] {
        let outcomes = [
            checkpoints.save(name, SaveOptions::default()).await.map(drop),
            checkpoints.restore(name, RestoreOptions::default()).await.map(drop),
            checkpoints.delete(name).await,
            checkpoints.download(name).await.map(drop),
            checkpoints.describe(name).await.map(drop),
            checkpoints.upload(name, Bytes::new(), true).await.map(drop),
        ];
        for outcome in outcomes {
            assert_eq!(outcome.expect_err("refused").reason(), Some("MALFORMED"), "{name:?}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn create_variable(variable: u64, initial_value: u64) -> proto::Command {
    command(Kind::CreateVariable(proto::CreateVariable {
        variable,
        name: "v".into(),
        initial_value,
        trainable: None,
    }))
}

#[tokio::test]
async fn a_restore_that_is_sent_again_takes_effect_once() {
    let (_folder, server) = server().await;
    let raw = Raw::connect(&server).await;
    raw.execute(1, vec![constant(1, &[1.0]), create_variable(2, 1)]).await.expect("done");
    let mut client = CheckpointServiceClient::new(channel(&server).await);
    let save = proto::SaveCheckpointRequest {
        credentials: Some(raw.credentials.clone()),
        name: "x".to_owned(),
        after_sequence: 2,
        ..Default::default()
    };
    let saved = client.save_checkpoint(save).await.expect("saved").into_inner();
    assert_eq!((saved.sequence, saved.tensors), (2, 1));
    let load = proto::LoadCheckpointRequest {
        credentials: Some(raw.credentials.clone()),
        name: "x".to_owned(),
        upload: 9,
    };
    client.load_checkpoint(load).await.expect("staged");
    let add = || {
        let (variable, value, mode) = (2, 1, proto::AssignMode::Add.into());
        command(Kind::AssignVariable(proto::AssignVariable { variable, value, mode }))
    };
    let restore = || {
        let restore = proto::RestoreCheckpoint { upload: 9, ..Default::default() };
        command(Kind::RestoreCheckpoint(restore))
    };
    let batch = || vec![add(), restore(), add(), fetch(2)];
    let first = raw.execute(3, batch()).await.expect("done");
    assert!(matches!(first.replies[0].result, Some(reply::Result::Restore(_))), "{first:?}");
    assert_eq!(elements(&first.replies[1]), [2.0]);
    let again = raw.execute(3, batch()).await.expect("done");
    assert_eq!(again.replies, first.replies);
    // The staged checkpoint is used up: a new restore of it fails.
    let new = raw.execute(7, vec![restore(), fetch(2)]).await.expect("done");
    assert_eq!(error(&new.replies[0]).reason, "UNKNOWN_UPLOAD");
    assert_eq!(elements(&new.replies[1]), [2.0]);
}

#[tokio::test]
async fn staged_checkpoints_are_paid_for_by_their_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("a path in UTF-8").to_owned();
    let server = Server::start_with(|config| {
        config.checkpoints.store = Some(place);
        config.sessions.session_memory_bytes = 300_000;
    })
    .await;
    let session = server.session().await;
    let variable = session.variable("w", TensorData::new([50_000], &vec![1.0f32; 50_000]));
    session.checkpoints().save("x", SaveOptions::default()).await.expect("saved");
    let refused = session.checkpoints().restore("x", RestoreOptions::default()).await;
    assert_eq!(refused.expect_err("no room for two").reason(), Some("MEMORY_LIMIT"));
    assert_eq!(variable.value::<f32>().await.expect("the value").len(), 50_000);
}

#[tokio::test]
async fn a_server_without_a_store_says_so() {
    let server = Server::start().await;
    let session = server.session().await;
    let refused = session.checkpoints().list().await.expect_err("there is no store");
    assert_eq!(refused.reason(), Some("CHECKPOINTS_DISABLED"));
}
