//! What a worker on the published SDK may ask of the ledger.

use lease_ledger::commands::environment::probe::ProbeEnvironment;
use serde_json::{Value, json};

use super::{World, manifest, own_config};
use crate::example_plugin::{SDKS, stage};
use crate::support::{caller, company};
use crate::tidy::root;

#[tokio::test]
async fn a_worker_process_of_each_sdk_gets_its_config_and_is_answered_what_is_not_offered() {
    for sdk in SDKS {
        let world = World::open().await;
        let home = world.folder.path().join("plugin");
        stage(&home, sdk);
        std::fs::copy(root().join("tests/plugins/asking-worker.mjs"), home.join("worker.mjs")).expect("a copy");
        let driver = json!({ "driverKey": "asking", "displayName": "Asking", "kind": "environment_driver" });
        world.install(manifest("asking", &driver), home, None).await;
        let config = json!({ "pluginKey": "asking", "driverKey": "asking", "driverConfig": {} });
        let environment = world.environment("asking", "plugin", config).await;
        let request = ProbeEnvironment { company_id: company(), environment_id: environment.environment_id };
        let (_, report) = world.ledger.probe_environment(caller(), request).await.expect("probed");
        let told: Value = serde_json::from_str(&report.summary).unwrap_or_else(|error| panic!("{error}: {report:?}"));
        assert_eq!(told["atStart"], json!(own_config()), "{sdk}");
        assert_eq!(told["inCall"], json!(own_config()), "{sdk}");
        // The older SDK names no company when it asks.
        let of_another = if sdk == SDKS[0] { json!({ "answer": own_config() }) } else { json!(-32_005) };
        assert_eq!(told["ofAnother"], of_another, "{sdk}");
        assert_eq!(told["state"], -32_601, "{sdk}");
        world.close().await;
    }
}
