use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// The publisher's tables.
fn recorded(file: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vista3d/");
    serde_json::from_slice(&std::fs::read(format!("{path}{file}")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u16> {
    serde_json::from_value(value.clone()).unwrap()
}

fn message(result: Result<Vec<u16>, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "R-PRM-05");
    error.to_string()
}

#[test]
fn the_table_for_ct_is_the_publishers() {
    let (table, recorded) = (ClassTable::ct(), recorded("labels.json"));
    let classes = recorded["classes"].as_array().unwrap();
    assert_eq!(table.classes().len(), classes.len());
    for (class, recorded) in table.classes().iter().zip(classes) {
        let status = match class.status {
            ClassStatus::Everything => "everything",
            ClassStatus::OnRequest => "overlapping",
            ClassStatus::Group => "group",
            ClassStatus::Unsupported => "unsupported",
        };
        assert_eq!(u64::from(class.id), recorded["id"].as_u64().unwrap());
        assert_eq!(class.name, recorded["name"].as_str().unwrap());
        assert_eq!(status, recorded["status"].as_str().unwrap(), "{}", class.name);
        assert_eq!(table.name(class.id), Some(class.name));
    }
    let promptable = table.classes().iter().filter(|c| c.status != ClassStatus::Unsupported);
    assert_eq!((table.classes().len(), promptable.count()), (132, 127));
    assert_eq!(table.everything(), numbers(&recorded["everything"]));
    assert_eq!(table.everything().len(), 117);
    let of_status = table.classes().iter().filter(|c| c.status == ClassStatus::Everything);
    assert_eq!(of_status.map(|c| c.id).collect::<Vec<_>>(), table.everything());
    let special = numbers(&recorded["special_point_ids"]["bundle"]);
    assert_eq!(special, [25, 26, 27, 28, 29, 117]);
    let zero_shot = |end: &str| recorded["zero_shot"][end].as_u64().unwrap();
    for id in 0..=u16::MAX {
        assert_eq!(table.is_special_for_points(id), special.contains(&id));
        let expected = (zero_shot("first_id")..=zero_shot("last_id")).contains(&u64::from(id));
        assert_eq!(table.is_zero_shot(id), expected);
    }
    assert_eq!(table.everything_in(Scan::MriBrain), None);
}

#[test]
fn the_table_for_ct_and_mri_is_the_publishers() {
    let (table, recorded) = (ClassTable::ctmr(), recorded("labels-ctmr.json"));
    let classes = recorded["classes"].as_array().unwrap();
    assert_eq!((table.classes().len(), classes.len()), (345, 345));
    for (class, recorded) in table.classes().iter().zip(classes) {
        assert_eq!(u64::from(class.id), recorded["id"].as_u64().unwrap());
        assert_eq!(class.name, recorded["name"].as_str().unwrap());
        let is_supported = class.status != ClassStatus::Unsupported;
        assert_eq!(is_supported, recorded["supported"].as_bool().unwrap(), "{}", class.name);
        assert!(!table.is_zero_shot(class.id));
    }
    let scans =
        [("CT_BODY", Scan::CtBody), ("MRI_BODY", Scan::MriBody), ("MRI_BRAIN", Scan::MriBrain)];
    let mut all = BTreeSet::new();
    for (name, scan) in scans {
        let listed = table.everything_in(scan).unwrap();
        assert_eq!(listed, numbers(&recorded["everything"][name]), "{name}");
        all.extend(listed.iter().copied());
    }
    let of_status = table.classes().iter().filter(|c| c.status == ClassStatus::Everything);
    assert!(of_status.map(|c| c.id).eq(all));
    assert_eq!(table.everything(), ClassTable::ct().everything());
}

#[test]
fn a_group_becomes_its_parts_in_the_recorded_order() {
    for (table, file) in
        [(ClassTable::ct(), "labels.json"), (ClassTable::ctmr(), "labels-ctmr.json")]
    {
        let groups = recorded(file)["groups"].clone();
        let groups = groups.as_object().unwrap();
        assert_eq!(groups.len(), 3);
        for class in table.classes() {
            let parts = groups.get(&class.id.to_string()).map(numbers);
            assert_eq!(class.status == ClassStatus::Group, parts.is_some(), "{}", class.name);
            assert_eq!(class.parts, parts.clone().unwrap_or_default(), "{}", class.name);
            if let Some(parts) = parts {
                assert!(!parts.is_empty());
                assert_eq!(table.find(class.name).unwrap(), parts);
                assert_eq!(table.find(&class.id.to_string()).unwrap(), parts);
                let error = table.find_for_points(class.name).unwrap_err();
                assert_eq!(error.code(), "R-PRM-05");
            }
        }
        assert_eq!(table.find("kidney").unwrap(), [14, 5]);
        assert_eq!(table.find("lung").unwrap(), [28, 29, 30, 31, 32]);
        assert_eq!(table.find("bone").unwrap().len(), 62);
    }
    let error = ClassTable::ct().find_for_points("Lungs").unwrap_err().to_string();
    assert_eq!(
        error,
        "`lung` stands for 5 classes, and points belong to one: did you mean left lung upper lobe or \
         left lung lower lobe or right lung upper lobe?"
    );
}

#[test]
fn every_class_is_found_by_its_name_and_its_number() {
    for table in [ClassTable::ct(), ClassTable::ctmr()] {
        // No two names are the same words.
        assert_eq!(table.by_words.len(), table.classes().len());
        for class in table.classes() {
            let spellings = [
                class.name.to_string(),
                class.name.to_uppercase(),
                class.name.replace(' ', "_"),
                class.id.to_string(),
                format!(" {} ", class.id),
            ];
            for text in spellings {
                match class.status {
                    ClassStatus::Unsupported => assert!(table.find(&text).is_err(), "{text}"),
                    ClassStatus::Group => assert_eq!(table.find(&text).unwrap(), class.parts),
                    _ => {
                        assert_eq!(table.find(&text).unwrap(), [class.id], "{text}");
                        assert_eq!(table.find_for_points(&text).unwrap(), class.id, "{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn usual_spellings_and_other_languages_lead_to_the_class() {
    for (text, id) in [
        ("Liver", 1),
        ("LEFT_KIDNEY", 14),
        ("kidney_left", 14),
        ("3", 3),
        ("Vertebrae-L5", 33),
        ("vertebrae_L5", 33),
        ("Milz", 3),
        ("urinary bladder", 15),
        ("left clavicle", 91),
        ("iliac_vena_left", 60),
        ("lung tumour", 23),  // spellchecker:disable-line
        ("Liver Tumour", 26), // spellchecker:disable-line
        ("pancreas tumor", 24),
    ] {
        assert_eq!(ClassTable::ct().find(text).unwrap(), [id], "{text}");
    }
    for (text, id) in [("brain stem", 220), ("left ang angular gyrus", 255), ("left lung", 135)] {
        assert_eq!(ClassTable::ctmr().find(text).unwrap(), [id], "{text}");
    }
}

#[test]
fn an_unknown_name_is_refused_with_those_that_may_be_meant() {
    for (text, expected) in [
        ("livr", "`livr` is not a class of the model: did you mean liver?"),
        ("Pancraes", "`Pancraes` is not a class of the model: did you mean pancreas?"),
        (
            " left lung",
            "`left lung` is not a class of the model: did you mean left lung upper lobe or left lung \
             lower lobe?",
        ),
        ("L5", "`L5` is not a class of the model: did you mean vertebrae L5?"),
        ("liver and others", "`liver and others` is not a class of the model: did you mean liver?"),
        ("pulmonary artery", "`pulmonary artery` is not a class of the model"),
        ("xylophone", "`xylophone` is not a class of the model"),
        ("", "`` is not a class of the model"),
        ("0", "`0` is not a class of the model"),
        ("70000", "`70000` is not a class of the model"),
    ] {
        assert_eq!(message(ClassTable::ct().find(text)), expected);
    }
    assert!(ClassTable::ct().find(&"liver".repeat(1000)).is_err());
}

#[test]
fn an_unsupported_class_is_refused_with_another_name_for_the_same() {
    let table = ClassTable::ct();
    assert_eq!(
        message(table.find("liver tumor")),
        "the model was not trained on class 130, `liver tumor`: did you mean hepatic tumor?"
    );
    assert_eq!(message(table.find("18")), "the model was not trained on class 18, `rectum`");
    let error = table.find_for_points("131").unwrap_err().to_string();
    assert_eq!(error, "the model was not trained on class 131, `vertebrae L6`");
}

#[test]
fn a_number_without_a_class_needs_points() {
    let table = ClassTable::ct();
    assert_eq!(table.find_for_points("200").unwrap(), 200);
    let expected = "class 200 is for an object that points are on, and not for an organ";
    assert_eq!(message(table.find("200")), expected);
    assert!(table.find_for_points("255").is_err());
    assert_eq!(ClassTable::ctmr().find("200").unwrap(), [200]);
}
