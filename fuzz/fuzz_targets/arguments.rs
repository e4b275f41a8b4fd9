//! The arguments of modules: any bytes are options or a failure that says what is wrong, and
//! what is `no_log` is not in it.
#![no_main]

use oxistrano_core::json::Value;
use oxistrano_core::{read_options, Module, Options};

/// No name of an option, no word of a message and no default has it.
const SECRET: &str = "\u{2603}s3cr3t";

fn read<M: Module>(text: &[u8]) {
    if let Err(result) = read_options::<M>(text) {
        let result = Value::Object(result);
        assert!(result["msg"].is_string(), "{result}");
    }
    let Ok(Value::Object(given)) = serde_json_from(text) else { return };
    for spec in M::Options::SPECS.iter().filter(|spec| spec.no_log) {
        let mut given = given.clone();
        given.insert(spec.name.to_owned(), SECRET.into());
        if let Err(result) = read_options::<M>(Value::Object(given).to_string().as_bytes()) {
            let result = Value::Object(result).to_string();
            assert!(!result.contains(SECRET), "{} of {}: {result}", spec.name, M::NAME);
        }
    }
}

fn serde_json_from(text: &[u8]) -> Result<Value, ()> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(())
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    read::<release_unpack::ReleaseUnpack>(text);
    read::<release_setup::ReleaseSetup>(text);
    read::<release_copy::ReleaseCopy>(text);
    read::<release_prune::ReleasePrune>(text);
    read::<php_fpm::PhpFpm>(text);
    read::<magento_status::MagentoStatus>(text);
    read::<magento_upgrade::MagentoUpgrade>(text);
    read::<magento_maintenance::MagentoMaintenance>(text);
    read::<magento_cache::MagentoCache>(text);
    read::<magento_cron::MagentoCron>(text);
});
