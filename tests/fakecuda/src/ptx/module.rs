//! A whole module.

use super::reader::Reader;
use super::tokens::{Token, at, tokens};
use super::{Function, Module, Result};

pub fn parse(text: &str) -> Result<Module> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0 };
    let mut module = Module::default();
    let mut external = false;
    while reader.peek().is_some() {
        if reader.take(';') {
            continue;
        }
        let line = reader.line();
        let word = reader.word()?;
        match word.as_str() {
            ".version" | ".address_size" | ".file" => reader.skip_line(),
            ".target" => {
                module.target = reader.word()?;
                while reader.take(',') {
                    reader.word()?;
                }
            }
            ".extern" => external = true,
            ".visible" | ".weak" | ".common" => {}
            ".section" => reader.skip_statement()?,
            ".global" | ".const" | ".shared" | ".local" => {
                loop {
                    let v = reader.variable(&word, external)?;
                    module.variables.push(v);
                    if !reader.take(',') {
                        break;
                    }
                }
                reader.expect(';')?;
                external = false;
            }
            ".entry" | ".func" => {
                let entry = word == ".entry";
                let mut results = Vec::new();
                if !entry && reader.peek() == Some(&Token::Sign('(')) {
                    results = reader.parameters()?;
                }
                while reader.is_word(".attribute") {
                    reader.word()?;
                    reader.expect('(')?;
                    while !reader.take(')') {
                        reader.at += 1;
                    }
                }
                let name = reader.word()?;
                let parameters = reader.parameters()?;
                let mut max_threads = None;
                let mut declared = false;
                loop {
                    if reader.take('{') {
                        break;
                    }
                    if reader.take(';') {
                        declared = true;
                        break;
                    }
                    let directive = reader.word()?;
                    if matches!(directive.as_str(), ".maxntid" | ".reqntid") {
                        let mut n = reader.int()?;
                        while reader.take(',') {
                            n *= reader.int()?;
                        }
                        max_threads = Some(n as u32);
                    } else if directive.starts_with('.') {
                        while matches!(reader.peek(), Some(Token::Int(_))) || reader.take(',') {
                            if matches!(reader.peek(), Some(Token::Int(_))) {
                                reader.at += 1;
                            }
                        }
                    }
                }
                if !declared {
                    let body = reader.body()?;
                    let function = Function {
                        name: name.clone(),
                        entry,
                        parameters,
                        results,
                        body,
                        max_threads,
                    };
                    module.functions.insert(name, function);
                }
                external = false;
            }
            _ if word.starts_with('.') => reader.skip_statement()?,
            _ => return Err(at(line, format_args!("unexpected {word}"))),
        }
    }
    Ok(module)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_nvcc_writes() {
        let text = r#"
.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 row[];
.global .align 4 .b8 table[4] = {1, 2, 3, 255};
.visible .entry k(
	.param .u64 k_param_0,
	.param .align 8 .b8 k_param_1[24]
)
{
	.reg .pred 	%p<3>;
	.reg .b32 	%r<4>;
	ld.param.u64 	%rd1, [k_param_0+8];
	@!%p1 bra 	$L__BB0_2;
	{ .reg .pred q; setp.lt.bf16 q, %rs1, %rs2; selp.u16 %rs3, 1, 0, q;}
	st.shared.v2.f32 [%r1+-4], {%f1, 0f3F800000};
$L__BB0_2:
	shfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1;
	ret;
}
"#;
        let module = super::parse(text).unwrap();
        let k = &module.functions["k"];
        assert_eq!(k.parameters[1].size, 24);
        assert_eq!(module.variables.len(), 2);
        assert_eq!(k.body.len(), 13);
    }
}
