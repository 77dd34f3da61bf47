//! The factory's programs with an agent in this process: a box from its seed to its owner.

mod secrets;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ashlar_inprocess::Appliance;

const SERIAL: &str = "AX-000123";

/// Runs a line of shell in a folder. In it, `FACTORY` is where the programs are.
async fn shell(folder: &Path, line: &str) -> Output {
    let factory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/factory");
    let mut command = Command::new("sh");
    command
        .args(["-euc", line])
        .current_dir(folder)
        .env("FACTORY", factory)
        .env("ASHLARCTL", env!("CARGO_BIN_EXE_ashlarctl"));
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.unwrap().unwrap()
}

async fn done(folder: &Path, line: &str) -> String {
    let output = shell(folder, line).await;
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A station that has flashed the box.
async fn station(folder: &Path) {
    let own = folder.join("boxes").join(SERIAL);
    fs::create_dir_all(&own).unwrap();
    fs::copy(folder.join("token"), own.join("token")).unwrap();
    let make = "openssl ecparam -name prime256v1 -genkey -noout -out boxes/ledger.key";
    done(folder, make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_provisioned_claimed_and_run_by_its_owner() {
    let appliance = Appliance::seeded(SERIAL).await;
    let folder = appliance.dir.path();
    let at = appliance.address;
    station(folder).await;
    let provision = format!(
        "export ASHLAR_CERT=pki/admin.pem ASHLAR_KEY=pki/admin.key
        $FACTORY/provision {at} --serial {SERIAL} --ca pki --untested --state"
    );

    // By somebody with another token, the box is not even asked.
    let strange = format!(
        "mkdir -p other/{SERIAL}; cp boxes/ledger.key other
        printf %064d 0 >other/{SERIAL}/token; {provision} other"
    );
    assert!(!shell(folder, &strange).await.status.success());
    assert!(
        !folder
            .join("other")
            .join(SERIAL)
            .join("request.csr")
            .exists()
    );

    done(folder, &format!("{provision} boxes")).await;
    let label = fs::read_to_string(folder.join(format!("boxes/{SERIAL}/label.txt"))).unwrap();
    done(folder, &format!("{provision} boxes")).await;
    let again = fs::read_to_string(folder.join(format!("boxes/{SERIAL}/label.txt"))).unwrap();
    assert_eq!(label, again);
    let check = "openssl pkey -in boxes/ledger.key -pubout -out public
        $FACTORY/ledger check boxes/ledger --public-key public && wc -l <boxes/ledger";
    assert_eq!(done(folder, check).await.trim(), "1");

    let owner = format!(
        "$ASHLARCTL pki init owner
        $ASHLARCTL pki issue owner admin --role admin
        export ASHLAR_CERT=owner/admin.pem ASHLAR_KEY=owner/admin.key
        $ASHLARCTL --endpoint {at} identity claim --serial {SERIAL} \
            --secret boxes/{SERIAL}/label.txt --factory-ca pki/ca.pem --authority owner/ca.pem
        name=ax-000123.device.ashlar.internal
        $ASHLARCTL --endpoint {at} --server-name $name --ca pki/ca.pem \
            identity request --out box.csr
        $ASHLARCTL pki sign owner box --request box.csr --server --san 127.0.0.1 \
            --out box.pem
        $ASHLARCTL --endpoint {at} --server-name $name --ca pki/ca.pem identity install box.pem
        $ASHLARCTL --endpoint {at} --ca owner/ca.pem --output json system show"
    );
    assert!(done(folder, &owner).await.contains("\"protocol\": 1"));
    no_secret_is_in_its_bundle(&appliance, &label).await;
    appliance.stop().await;
}

/// What the factory and its owner have given it stays with it.
async fn no_secret_is_in_its_bundle(appliance: &Appliance, label: &str) {
    let (folder, at) = (appliance.dir.path(), appliance.address);
    let bundle = format!(
        "openssl req -x509 -nodes -days 1 -subj /CN=support -newkey rsa:2048 \
            -keyout support.key -out support.pem
        export ASHLAR_CERT=owner/admin.pem ASHLAR_KEY=owner/admin.key
        $ASHLARCTL --endpoint {at} --ca owner/ca.pem support bundle box.cms --to support.pem
        openssl cms -decrypt -binary -inform DER -in box.cms -recip support.pem -inkey support.key \
            | tar xz"
    );
    done(folder, &bundle).await;
    let all = secrets::everything(&folder.join("ashlar-support"));
    assert!(secrets::holds(&all, SERIAL.as_bytes()));
    let label = label.split_whitespace().last().unwrap();
    let plain: String = label.chars().filter(char::is_ascii_alphanumeric).collect();
    assert_eq!(plain.len(), 25, "{label}");
    for secret in [label, &plain, &plain.to_lowercase()] {
        secrets::assert_absent(&all, "the claim secret", secret.as_bytes());
    }
    let token = fs::read_to_string(folder.join("token")).unwrap();
    let bytes = token.trim().as_bytes().chunks(2);
    let bytes: Vec<u8> = bytes
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    secrets::assert_absent(&all, "the token", &bytes);
    let mut keys = 0;
    for place in ["factory", "identity"] {
        for entry in fs::read_dir(folder.join(place)).unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(&path).is_ok_and(|text| text.contains("PRIVATE KEY")) {
                secrets::assert_no_key(&all, &path);
                keys += 1;
            }
        }
    }
    assert_eq!(keys, 2, "the device's and the owner's");
}
