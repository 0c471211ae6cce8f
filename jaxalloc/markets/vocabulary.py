"""What the columns of a table of prices are called: dates, symbols, and the fields of a security.

The names are those that data portals, exchanges, terminals, spreadsheets and the usual packages write, in several
languages. A name is compared without case, marks, numbering, units and separators, see `plain_name`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

Role = Literal["date", "time", "symbol", "adjusted", "close", "price", "return", "range", "other"]

# The fields of which one is the price of a day, best first. Those of a "range" (open, high, low) and "other" ones
# never are.
VALUE_ROLES: tuple[Role, ...] = ("adjusted", "close", "price")

_NAMES: dict[Role, str] = {
    "date": """
        date, dates, datetime, date time, timestamp, day, month, quarter, year, week, yyyymmdd, yyyymm,
        observation date, trade date, trading date, trading day, business date, price date, quote date, value
        date, data date, datadate, caldt, as of, as of date, time period, open time, time open, opentime, unix,
        unix time, unix timestamp, epoch, gmt time, utc time, local time, timestamp utc, unnamed 0, datum, tag,
        monat, jahr, fecha, dia, mes, data, dia, jour, mois, dato, dag, maand, datum tijd, tarih, дата, 日期,
        交易日期, 日付, 날짜, 일자""",
    "time": "time, uhrzeit, hora, heure, ora, czas, zeit, tijd, 时间, 時刻",
    "symbol": """
        symbol, symbols, ticker, tickers, asset, assets, asset name, asset id, security, security name, security
        id, secid, instrument, instrument id, isin, cusip, sedol, ric, figi, wkn, valor, permno, permco, gvkey,
        tic, code, ts code, stock code, stock, fund, coin, pair, market, contract, issuer, company, name,
        identifier, id, act symbol, symbole, simbolo, kürzel, wertpapier, valeur, titre, titolo, título, acción,
        papel, ativo, 代码, 股票代码, コード, 종목코드""",
    "adjusted": """
        adj close, adjusted close, adjclose, adjusted, adjusted closing price, adj closing price, adjusted price,
        adj price, price adjusted, close adj, close adjusted, adjusted last, adj last, adj prc, bereinigt, cierre
        ajustado, cierre ajust, clôture ajustée, chiusura rettificata, fechamento ajustado, 复权收盘价,
        調整後終値, 调整收盘价, 수정종가""",
    "close": """
        close, closing, closing price, close price, close last, last close, day close, last, last price, px last,
        px close, closeprice, lastprice, trade close, prccd, settle, settlement, settlement price, schluss,
        schlusskurs, schlußkurs, letzter, zuletzt, cierre, último, último precio, precio de cierre, clôture,
        cloture, cours de clôture, dernier, chiusura, ultimo, fechamento, slotkoers, slot, laatste, zamknięcie,
        zamkniecie, lukning, stängning, slutkurs, päätöskurssi, kapanış, şimdi, цена, закрытие, 收盘, 收盘价,
        终值, 終値, 종가""",
    "price": """
        price, prices, value, values, nav, net asset value, unit price, navps, mid, mid price, prc, level, index
        level, index value, fix, fixing, rate, obs value, kurs, preis, wert, precio, valor cuota, prix, cours,
        prezzo, preço, koers, cena, cotação, valeur liquidative, quotation, 净值, 单位净值, 価格""",
    "return": """
        return, returns, ret, rets, total return, simple return, daily return, monthly return, retx, rtn, rendite,
        rendement, rendimento, retorno, performance""",
    "range": """
        open, high, low, opening price, open price, day open, high price, day high, low price, day low, openprice,
        highprice, lowprice, px open, px high, px low, px bid, px ask, bid, ask, offer, bid close, ask close,
        eröffnung, eröffnungskurs, erster, hoch, tageshoch, tief, tagestief, apertura, máximo, mínimo, máx, mín,
        ouverture, haut, plus haut, bas, plus bas, massimo, minimo, max, min, abertura, máxima, mínima, otwarcie,
        najwyższy, najniższy, najwyzszy, najnizszy, hoogste, laagste, açılış, yüksek, düşük, 开盘, 开盘价, 最高,
        最高价, 最低, 最低价, 始値, 高値, 安値, 시가, 고가, 저가, adj open, adj high, adj low, adjopen, adjhigh,
        adjlow, adjusted open, adjusted high, adjusted low""",
    "other": """
        px volume, vwap, twap, average, average price, avg price, weighted average, weighted price, typical price,
        wap, prev close, previous close, prevclose, pre close, 昨收价, 前收盘, volume, vol, adj volume, adjusted
        volume, unadjusted volume, unadjustedvolume, share volume, shares, total volume, shares traded, base
        volume, volume from, volume to, volumefrom, volumeto, volume base, volume quote, volume usd, volume usdt,
        volume btc, quote volume, quote asset volume, base asset volume, umsatz, volumen, stück, volumes, volumi,
        wolumen, obrót, hacim, turnover, amount, total trade quantity, deliverable qty, no of shares, no of
        trades, number of trades, trades, trade count, tradecount, count, taker buy base, taker buy base volume,
        taker buy base asset volume, taker buy quote volume, taker buy quote asset volume, ignore, open interest,
        openinterest, openint, open int, oi, 成交量, 成交额, 出来高, 거래량, 换手率, dividends, dividend, dividend
        amount, div cash, divcash, ex dividend, stock splits, stock split, split, splits, split ratio, split
        factor, splitfactor, split coefficient, capital gains, adj factor, adjvolume, market cap, marketcap,
        market capitalization, mktcap, shrout, change, chg, net change, change percent, changepercent, pct change,
        pct chg, change pct, var, variation, veränderung, variación, variazione, fark, change over time,
        changeovertime, label, spread, spread high low, spread close open, per, period, frequency, interval, close
        time, time close, closetime, time high, time low, currency, exchange, repaired, factor, vs, 涨跌额,
        涨跌幅, 前日比, 변동, total traded quantity, traded quantity, traded volume, bar count, barcount, tickvol,
        tick volume, 振幅, 换手, amplitude, no. of trades""",
}
_ROLE_OF: dict[str, Role] = {}
for _role, _words in _NAMES.items():
    for _word in _words.split(","):
        _ROLE_OF.setdefault(" ".join(_word.split()), _role)

# the names of the months, January first; a word of three letters or more that begins one of them is that month
_MONTHS = """
    january januar janvier enero gennaio janeiro januari styczeń jänner
    february februar février febrero febbraio fevereiro februari luty feber
    march märz mars marzo março maart marzec mrt
    april avril abril aprile kwiecień
    may mai mayo maggio maio mei maj
    june juni juin junio giugno junho czerwiec
    july juli juillet julio luglio julho lipiec
    august août agosto augustus sierpień augusti
    september septembre septiembre settembre setembro wrzesień
    october oktober octobre octubre ottobre outubro październik
    november novembre noviembre novembro listopad
    december dezember décembre diciembre dicembre dezembro grudzień"""

_NUMBERING = re.compile(r"^\d+[.)]\s*")  # "5. adjusted close"
_UNIT = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*$")  # "Close (USD)", "Return [%]"
_MARKS = re.compile(r"[*<>#\"'%$€£¥†‡.]+")
_SEPARATORS = re.compile(r"[\s_/\-:|]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PERCENT = re.compile(
    r"[(\[]\s*(?:in\s+)?(?:%|pct\.?|per\s?cent|prozent)\s*[)\]]|\bin\s+(?:%|pct\.?|per\s?cent|prozent)$|[^\W\d]\s+(?:%|pct\.?)$",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"[.,_\s:|/\-]+")
_TUPLE = re.compile(r"^\(\s*['\"](.+?)['\"]\s*,\s*['\"](.+?)['\"]\s*\)$")  # a pair of levels that was written as text


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


_MONTH_NAMES = [
    (number, name)
    for number, line in enumerate(_MONTHS.strip().splitlines(), 1)
    for name in _without_accents(line).split()
]


@functools.cache
def month_of(word: str) -> int | None:
    """Return the number of the month that a word names or begins, in one of several languages; None if it is none."""
    plain = _without_accents(word).rstrip(".")
    months = {number for number, name in _MONTH_NAMES if len(plain) >= 3 and name.startswith(plain)}
    return months.pop() if len(months) == 1 else None


def plain_name(name: str) -> str:
    """Return a name without case, marks, numbering, units and separators: ``<ADJ_Close>*`` is "adj close"."""
    text = unicodedata.normalize("NFC", name).strip()
    text = _UNIT.sub("", _NUMBERING.sub("", text))
    text = _SEPARATORS.sub(" ", _MARKS.sub(" ", text))
    return " ".join(text.casefold().split())


@functools.lru_cache(maxsize=65_536)
def role_of(name: str) -> Role | None:
    """Return what a column of that name holds, None where the name is none of the vocabulary's."""
    if name.isascii() and name.isalnum():  # nothing to leave out but humps
        return _ROLE_OF.get(name.casefold()) or _ROLE_OF.get(_HUMP.sub(" ", name).casefold())
    return _ROLE_OF.get(plain_name(name)) or _ROLE_OF.get(plain_name(_HUMP.sub(" ", name)))


def is_field(name: str) -> bool:
    """Whether a name is a field of a security: a price of a day, a volume, a change and the like."""
    return role_of(name) in ("adjusted", "close", "price", "return", "range", "other")


def says_per_cent(name: str) -> bool:
    """Whether a column's name says that its numbers are per cents."""
    return bool(_PERCENT.search(name))


def parts_of(name: str) -> tuple[str, str] | None:
    """Split a name such as ``AAA.Close``, ``Close_AAA`` or ``('Close', 'AAA')`` into symbol and field, or give None.

    A field at the end wins over one at the front; of two ways to cut at the same end, the longer field wins.
    """
    pair = _TUPLE.match(name)
    if pair is not None:
        first, second = pair.groups()
        if is_field(second) and not is_field(first):
            return first, second
        return (second, first) if is_field(first) else None
    cuts = [match.span() for match in _SPLIT.finditer(name) if match.start() > 0 and match.end() < len(name)]
    for start, end in cuts:
        if is_field(name[end:]):
            return name[:start], name[end:]
    for start, end in reversed(cuts):
        if is_field(name[:start]):
            return name[end:], name[:start]
    return None


def best_field(names: Iterable[str], returns: bool = False) -> str | None:
    """Return the first of the names with the best role: adjusted close, close, price; or the return, if asked for."""
    listed = list(names)
    order: tuple[Role, ...] = ("return", *VALUE_ROLES) if returns else (*VALUE_ROLES, "return")
    for role in order:
        for name in listed:
            if role_of(name) == role:
                return name
    return None
