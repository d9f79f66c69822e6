//! Words to functions and variables.

use super::tokens::{Token, at};
use super::{Init, Operand, Parameter, Result, Statement, Variable, type_bits};

pub(super) struct Reader {
    pub(super) tokens: Vec<(Token, u32)>,
    pub(super) at: usize,
}

impl Reader {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }
    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at.min(self.tokens.len().saturating_sub(1))).map_or(0, |t| t.1)
    }
    pub(super) fn next(&mut self) -> Result<Token> {
        let token = self.tokens.get(self.at).map(|t| t.0.clone());
        self.at += 1;
        token.ok_or_else(|| "PTX ends early".into())
    }
    pub(super) fn take(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }
    pub(super) fn expect(&mut self, sign: char) -> Result<()> {
        if self.take(sign) {
            return Ok(());
        }
        Err(at(self.line(), format_args!("expected {sign:?}, found {:?}", self.peek())))
    }
    pub(super) fn word(&mut self) -> Result<String> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(at(self.line(), format_args!("expected a name, found {other:?}"))),
        }
    }
    pub(super) fn int(&mut self) -> Result<i64> {
        let negative = self.take('-');
        match self.next()? {
            Token::Int(bits) if negative => Ok((bits as i64).wrapping_neg()),
            Token::Int(bits) => Ok(bits as i64),
            other => Err(at(self.line(), format_args!("expected a number, found {other:?}"))),
        }
    }
    pub(super) fn is_word(&self, text: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == text)
    }
    /// Past the next `;`, or a whole block in braces.
    pub(super) fn skip_statement(&mut self) -> Result<()> {
        let mut depth = 0;
        loop {
            match self.next()? {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                Token::Sign(';') if depth == 0 => return Ok(()),
                _ => {}
            }
        }
    }
    pub(super) fn skip_line(&mut self) {
        let line = self.line();
        while self.at < self.tokens.len() && self.line() == line {
            self.at += 1;
        }
    }

    /// `.align 8 .b8 name[4] = {..}` after the space.
    pub(super) fn variable(&mut self, space: &str, external: bool) -> Result<Variable> {
        let (mut align, mut width, mut vector) = (0, 0, 1);
        let name = loop {
            let word = self.word()?;
            match word.as_str() {
                ".align" => align = self.int()? as usize,
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".attribute" | ".ptr" | ".noalias" => {
                    if self.take('(') {
                        while !self.take(')') {
                            self.at += 1;
                        }
                    }
                }
                ".const" | ".global" | ".shared" | ".local" if width != 0 => {}
                _ if word.starts_with('.') => {
                    let bits = type_bits(&word[1..]).ok_or_else(|| at(self.line(), &word))?;
                    width = (bits as usize).div_ceil(8);
                }
                _ => break word,
            }
        };
        let (mut count, mut open) = (1, false);
        while self.take('[') {
            if self.take(']') {
                open = true;
            } else {
                count *= self.int()? as usize;
                self.expect(']')?;
            }
        }
        let mut init = Vec::new();
        if self.take('=') {
            self.initializer(&mut init)?;
            if open {
                count = init.len();
                open = false;
            }
        }
        let size = if open { 0 } else { width * vector * count };
        let align = if align == 0 { width * vector } else { align };
        Ok(Variable { space: space.into(), align, width, name, size, external, init })
    }

    pub(super) fn initializer(&mut self, out: &mut Vec<Init>) -> Result<()> {
        if self.take('{') {
            while !self.take('}') {
                self.initializer(out)?;
                self.take(',');
            }
            return Ok(());
        }
        let negative = self.take('-');
        match self.next()? {
            Token::Int(bits) => {
                out.push(Init::Bits(if negative { bits.wrapping_neg() } else { bits }))
            }
            Token::Float(bits, _) => out.push(Init::Bits(bits)),
            Token::Word(name) if name == "generic" => {
                self.expect('(')?;
                let name = self.word()?;
                self.expect(')')?;
                let offset = if self.take('+') { self.int()? } else { 0 };
                out.push(Init::Address(name, offset));
            }
            Token::Word(name) => {
                let offset = if self.take('+') { self.int()? } else { 0 };
                out.push(Init::Address(name, offset));
            }
            other => return Err(at(self.line(), format_args!("initializer {other:?}"))),
        }
        Ok(())
    }

    pub(super) fn parameters(&mut self) -> Result<Vec<Parameter>> {
        let mut out = Vec::new();
        if !self.take('(') {
            return Ok(out);
        }
        while !self.take(')') {
            let word = self.word()?;
            match word.as_str() {
                ".param" | ".reg" => {
                    let v = self.variable(".param", false)?;
                    out.push(Parameter { name: v.name, size: v.size, align: v.align.max(1) });
                }
                _ => return Err(at(self.line(), format_args!("parameter {word}"))),
            }
            self.take(',');
        }
        Ok(out)
    }

    pub(super) fn operand(&mut self) -> Result<Operand> {
        if self.take('[') {
            let (mut base, mut offset) = (None, 0);
            match self.peek() {
                Some(Token::Word(_)) => base = Some(self.word()?),
                _ => offset = self.int()?,
            }
            while !self.take(']') {
                // A minus is the number's own.
                if self.take('+') || self.peek() == Some(&Token::Sign('-')) {
                    offset += self.int()?;
                } else {
                    return Err(at(self.line(), format_args!("address {:?}", self.peek())));
                }
            }
            return Ok(Operand::Address(base, offset));
        }
        for (open, close) in [('{', '}'), ('(', ')')] {
            if self.take(open) {
                let mut items = Vec::new();
                while !self.take(close) {
                    items.push(self.operand()?);
                    self.take(',');
                }
                return Ok(if open == '{' { Operand::Vector(items) } else { Operand::List(items) });
            }
        }
        if self.take('!') {
            return Ok(Operand::Not(self.word()?));
        }
        let negative = self.take('-');
        match self.next()? {
            Token::Int(bits) => {
                Ok(Operand::Int(if negative { bits.wrapping_neg() } else { bits } as i64))
            }
            Token::Float(bits, 32) => {
                Ok(Operand::F32(bits as u32 ^ if negative { 1 << 31 } else { 0 }))
            }
            Token::Float(bits, _) => Ok(Operand::F64(bits ^ if negative { 1 << 63 } else { 0 })),
            Token::Word(name) => {
                if self.take('|') {
                    return Ok(Operand::Pair(name, self.word()?));
                }
                if self.take('+') {
                    return Ok(Operand::Offset(name, self.int()?));
                }
                Ok(Operand::Name(name))
            }
            other => Err(at(self.line(), format_args!("operand {other:?}"))),
        }
    }

    pub(super) fn body(&mut self) -> Result<Vec<Statement>> {
        let (mut out, mut depth) = (Vec::new(), 1);
        loop {
            if self.take('{') {
                depth += 1;
                out.push(Statement::Open);
                continue;
            }
            if self.take('}') {
                depth -= 1;
                if depth == 0 {
                    return Ok(out);
                }
                out.push(Statement::Close);
                continue;
            }
            if self.take(';') {
                continue;
            }
            let line = self.line();
            let mut guard = None;
            if self.take('@') {
                let negative = self.take('!');
                guard = Some((negative, self.word()?));
            }
            let word = self.word()?;
            if guard.is_none() && self.take(':') {
                out.push(Statement::Label(word));
                continue;
            }
            match word.as_str() {
                _ if word == ".reg" || word.starts_with(".reg.") => {
                    let mut kind = match word.strip_prefix(".reg") {
                        Some("") | None => self.word()?,
                        Some(kind) => kind.to_string(),
                    };
                    let mut vector = 1;
                    if kind == ".v2" || kind == ".v4" {
                        vector = if kind == ".v2" { 2 } else { 4 };
                        kind = self.word()?;
                    }
                    let bits = type_bits(&kind[1..]).ok_or_else(|| at(line, &kind))? * vector;
                    loop {
                        let name = self.word()?;
                        let mut count = 0;
                        if self.take('<') {
                            count = self.int()? as u32;
                            self.expect('>')?;
                        }
                        out.push(Statement::Register(bits, name, count));
                        if !self.take(',') {
                            break;
                        }
                    }
                    self.expect(';')?;
                }
                ".shared" | ".local" | ".param" | ".const" | ".global" => loop {
                    let v = self.variable(&word, false)?;
                    out.push(Statement::Variable(v));
                    if !self.take(',') {
                        self.expect(';')?;
                        break;
                    }
                },
                ".loc" => self.skip_line(),
                _ if word.starts_with('.') => self.skip_statement()?,
                _ => {
                    let mut operands = Vec::new();
                    while !self.take(';') {
                        operands.push(self.operand()?);
                        self.take(',');
                    }
                    out.push(Statement::Instruction { line, guard, op: word, operands });
                }
            }
        }
    }
}
