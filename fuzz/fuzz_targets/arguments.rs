//! The arguments of modules: any bytes are options or a failure that says what is wrong, and
//! what is `no_log` is not in it.
#![no_main]

use oxistrano_core::json::Value;
use oxistrano_core::Program;

/// No name of an option, no word of a message and no default has it.
const SECRET: &str = "\u{2603}s3cr3t";

fn read(module: &Program, text: &[u8]) {
    if let Err(result) = module.check(text) {
        let result = Value::Object(result);
        assert!(result["msg"].is_string(), "{result}");
    }
    let given = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let Some(Value::Object(given)) = given else { return };
    for spec in module.options.iter().filter(|spec| spec.no_log) {
        let mut given = given.clone();
        given.insert(spec.name.to_owned(), SECRET.into());
        if let Err(result) = module.check(Value::Object(given).to_string().as_bytes()) {
            let result = Value::Object(result).to_string();
            assert!(!result.contains(SECRET), "{} of {}: {result}", spec.name, module.name);
        }
    }
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    oxistrano::MODULES.iter().for_each(|module| read(module, text));
});
