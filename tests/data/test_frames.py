"""From frames to Data: labels, numbers by training's statistics, categories, text, ids, splits, missing values."""

from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tutelage.data.frames import WORDS, data_of
from tutelage.errors import BadInput

pd = pytest.importorskip("pandas")

SPLITS = ("train", "validation", "test")
N = 60


def frame(**columns):
    """A table of two numbers, a category and three classes, rows in no order; columns given replace or join these, None leaves out."""
    rng = np.random.default_rng(0)
    made = {
        "height": rng.normal(1e3, 5, N),
        "weight": rng.integers(40, 90, N),
        "colour": rng.choice(["red", "green", "blue"], N),
        "label": [("ant", "bee", "cow")[i % 3] for i in range(N)],
    } | columns
    return pd.DataFrame({k: v for k, v in made.items() if v is not None})


def made(*frames, **options):
    given = frames or (frame(),)
    return data_of(dict(zip(("train", "test"), given, strict=False)), name="toy", **options)


def whole(data, key):
    """A column over all splits, in the order of the ids."""
    ids = torch.cat([getattr(data, s).ids() for s in SPLITS])
    values = [getattr(data, s).columns[key] for s in SPLITS]
    if isinstance(values[0], torch.Tensor):
        return torch.cat(values)[ids.argsort()]
    return [v for _, v in sorted(zip(ids.tolist(), itertools.chain(*values), strict=True))]


def test_every_row_is_in_one_split_under_its_number_with_its_own_label():
    """Rows shuffled apart from their labels train to a third."""
    table, data = frame(), made()
    assert whole(data, "id").tolist() == list(range(N))
    assert [data.classes[i] for i in whole(data, "y")] == table["label"].tolist()
    assert data.classes == ("ant", "bee", "cow")
    assert [len(getattr(data, s)) for s in SPLITS] == [42, 9, 9]
    assert data.name == "toy"


def test_numbers_are_standardised_by_the_statistics_of_training_alone():
    """Statistics of all rows tell training about test."""
    table, data = frame(), made()
    scaler = StandardScaler().fit(table[["height", "weight"]].iloc[data.train.ids()])
    for source in (getattr(data, s) for s in SPLITS):
        expected = scaler.transform(table[["height", "weight"]].iloc[source.ids()])
        np.testing.assert_allclose(source.columns["x"][:, :2], expected, rtol=1e-5, atol=1e-6)
    assert data.train.columns["x"].dtype == torch.float32


def test_few_words_become_a_column_each():
    """Numbers for colours would say that green is half red."""
    table, data = frame(), made()
    marks = OneHotEncoder(sparse_output=False).fit_transform(table[["colour"]])
    np.testing.assert_array_equal(whole(data, "x")[:, 2:], marks)


def test_a_word_that_training_lacks_is_marked_nowhere():
    """Its weights would stay as they were drawn, and add noise in test."""
    colour = np.array(["red", "green"])[np.arange(N) % 2]
    rows = frame(colour=colour)
    rows.loc[made(rows).test.ids()[0].item(), "colour"] = "violet"
    data = made(rows)
    assert data.train.columns["x"].shape[1] == 2 + 3
    assert data.test.columns["x"][0, 2:].tolist() == [0, 0, 0]
    assert (data.train.columns["x"][:, 2:].sum(1) == 1).all()


def test_large_numbers_keep_their_differences():
    """Seconds since 1970 differ by less than float32 can tell before they are centred."""
    seconds = 1.7e9 + np.arange(N)
    data = made(frame(height=seconds))
    expected = StandardScaler().fit(seconds[data.train.ids()][:, None]).transform(seconds[:, None])[:, 0]
    np.testing.assert_allclose(whole(data, "x")[:, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constant", [3.0, 0.1, 1e9 + 0.1, 0.0])
def test_a_constant_column_becomes_zero(constant):
    """Its deviation is rounding; to divide by that would make test values of any size."""
    assert not whole(made(frame(height=[constant] * N)), "x")[:, 0].any()


def test_a_column_that_is_constant_in_training_alone_is_centred():
    """Nothing says how far is far."""
    rows = frame(height=[5.0] * N)
    rows.loc[made(rows).test.ids()[0].item(), "height"] = 7.0
    data = made(rows)
    assert data.test.columns["x"][0, 0] == 2
    assert not data.train.columns["x"][:, 0].any()


def test_columns_can_be_chosen():
    """Leave out what tells the answer."""
    data = made(columns=("weight",))
    assert data.train.columns["x"].shape[1] == 1
    assert made(columns=("colour",)).train.columns["x"].shape[1] == 3


def test_truth_values_are_numbers():
    """True is one, false is zero, then centred like any number."""
    flag = np.arange(N) % 2 == 0
    data = made(frame(flag=flag), columns=("flag",))
    assert ((whole(data, "x")[:, 0] > 0).numpy() == flag).all()


def test_exact_decimals_and_narrow_types_are_numbers():
    """Parquet files of databases hold them."""
    plain = made(frame(height=np.arange(N) / 4))
    for values in ([Decimal(i) / 4 for i in range(N)], (np.arange(N) / 4).astype("float32"), pd.array(np.arange(N) / 4, dtype="Float64")):
        torch.testing.assert_close(whole(made(frame(height=values)), "x"), whole(plain, "x"))


def test_dates_and_mixed_values_of_few_kinds_are_words():
    """They are no numbers, and are shown as columns of words."""
    days = pd.to_datetime(["2031-01-01", "2031-01-02"] * (N // 2))
    assert made(frame(day=days), columns=("day",)).train.columns["x"].shape[1] == 2
    assert made(frame(mixed=[1, "a", 2.5] * (N // 3)), columns=("mixed",)).train.columns["x"].shape[1] == 3


def test_pandas_categories_are_words_or_text():
    """Fill and split must not meet a type that knows only its own words."""
    colour = pd.Categorical(["red", None, "blue"] * (N // 3))
    assert made(frame(colour=colour), columns=("colour",), missing="fill").train.columns["x"].shape[1] == 3
    assert whole(made(frame(colour=colour), text=("colour",), missing="fill"), "text")[:3] == ["red", "", "blue"]


@pytest.mark.parametrize("values", [[[1, 2]] * N, [{"a": 1}] * N, [b"x"] * N, [np.zeros(2)] * N], ids=["list", "dict", "bytes", "array"])
@pytest.mark.parametrize("options", [{}, {"columns": ("odd",)}, {"text": ("odd",)}])
def test_nested_values_are_refused_by_column(values, options):
    """The text of a list is no text."""
    with pytest.raises(BadInput, match=r"column 'odd' of toy holds values of type (list|dict|bytes|ndarray); .*--data.text"):
        made(frame(odd=values), **options)


def test_nested_values_beside_what_is_read_do_not_matter():
    """A file may hold more than is studied."""
    assert whole(made(frame(odd=[[1]] * N), columns=("height",)), "x").shape == (N, 1)


def test_columns_of_words_alone_are_text():
    """Mails have no numbers."""
    rows = frame(height=None, weight=None, colour=[f"mail {i}" for i in range(N)])
    assert whole(made(rows), "text") == rows["colour"].tolist()


def test_two_columns_of_text_are_a_pair_and_three_are_joined():
    """A premise and a hypothesis stay apart; a title, a body and a signature are one text."""
    a, b, c = ([f"{x}{i}" for i in range(N)] for x in "abc")
    rows = frame(a=a, b=b, c=c)
    pair = made(rows, text=("a", "b"))
    assert (whole(pair, "text"), whole(pair, "text_pair")) == (a, b)
    assert whole(made(rows, text=("a", "b", "c")), "text")[1] == "a1 b1 c1"
    assert "x" not in pair.train.columns


def test_numbers_can_be_read_as_text():
    """A phone number, for instance."""
    assert whole(made(text=("weight",)), "text") == frame()["weight"].astype(str).tolist()


def test_many_words_beside_numbers_are_refused_with_both_mends():
    """A thousand columns of names would be learnt by heart."""
    rows = frame(name=[f"n{i}" for i in range(N)])
    with pytest.raises(BadInput, match=rf"column 'name' of toy holds {N} distinct strings.*--data.text 'name', or --data.columns"):
        made(rows)
    assert len(rows["name"].unique()) > WORDS


def test_data_may_have_no_label():
    """A teacher needs none."""
    data = made(label="", columns=("height",))
    assert data.train.labels() is None
    assert data.classes == ()
    with_label = made(label="")
    assert with_label.train.columns["x"].shape[1] == 2 + 3 + 3  # the label is then a column like others


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9, 2], ("2", "9", "10")),
        (["10", "9", "2"], ("10", "2", "9")),
        ([1.0, 0.0, -1.0], ("-1", "0", "1")),
        ([True, False, True], ("False", "True")),
        ([" b", "b ", "a"], ("a", "b")),
        (["Äpfel", "ä", "z"], ("z", "Äpfel", "ä")),
    ],
)
def test_classes_are_sorted_names_or_numbers(labels, classes):
    """Ten comes behind nine; true and false keep their names; blanks around a name are a slip."""
    data = made(frame(label=labels * (N // 3)))
    assert data.classes == classes
    expected = [str(v).strip() if not isinstance(v, float) else str(int(v)) for v in labels * (N // 3)]
    assert [data.classes[i] for i in whole(data, "y")] == expected


def test_the_order_of_the_classes_can_be_given():
    """A teacher trained elsewhere has an order of its own."""
    data = made(classes=("cow", "ant", "bee"))
    assert data.classes == ("cow", "ant", "bee")
    assert whole(data, "y")[:3].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (frame(), {"classes": ("ant", "bee")}, "holds 'cow', which is none of the classes ant, bee"),
        (frame(), {"classes": ("ant", "bee", "cow", "ant")}, "are not distinct"),
        (frame(), {"classes": ("ant", "bee", "cow", "dog")}, "class 'dog' of toy has 0 training samples"),
        (frame(label=["a"] * N), {}, "holds one class only, 'a'"),
        (frame(label=np.arange(N) / 4), {}, "holds fractions"),
        (frame(label=[float("inf"), 1.0] * (N // 2)), {}, "holds fractions"),
        (frame(label=np.arange(N)), {}, f"holds {N} distinct values in {N} rows"),
        (frame(label=["a", "b"] * (N // 2 - 1) + ["c", "a"]), {}, "class 'c' of toy has 1 training samples"),
        (frame(label=[["a"], ["b"]] * (N // 2)), {}, "holds values of type list"),
    ],
)
def test_labels_that_are_no_classes_are_refused(table, options, message):
    """Before a head of a thousand outputs is trained on prices."""
    with pytest.raises(BadInput, match=message):
        made(table, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "lable"}, "has no column 'lable'; nearest: 'label'; its columns are 'height', 'weight', 'colour', 'label'"),
        ({"columns": ("width",)}, "has no column 'width'"),
        ({"text": ("color",)}, "has no column 'color'; nearest: 'colour'"),
        ({"id": "key"}, "has no column 'key'"),
        ({"split": "part"}, "has no column 'part'"),
        ({"label": "colour", "columns": ("colour", "height")}, "column 'colour' of toy is named twice"),
        ({"text": ("label",)}, "column 'label' of toy is named twice"),
        ({"id": "label"}, "column 'label' of toy is named twice"),
        ({"columns": ("height", "height")}, "column 'height' of toy is named twice"),
        ({"text": ("colour",), "columns": ("height",)}, "not both"),
        ({"missing": "ignore"}, "missing='ignore'; expected refuse, drop or fill"),
        ({"rare": "ignore"}, "rare='ignore'; expected refuse, drop or keep"),
    ],
)
def test_what_is_asked_for_must_be_there_once(options, message):
    """A label that is also an input teaches nothing but itself."""
    with pytest.raises(BadInput, match=message):
        made(**options)


def test_a_table_without_a_column_called_label_says_how_to_name_one():
    """The first thing that goes wrong."""
    with pytest.raises(BadInput, match=r"its columns are 'height', .*\(name the label column with --data.label COLUMN, or ''"):
        made(frame(label=None))


def test_a_table_of_labels_alone_is_refused():
    """There is nothing to learn from."""
    with pytest.raises(BadInput, match="has no column left to read besides 'label'"):
        made(frame()[["label"]])
    with pytest.raises(BadInput, match="has no column left to read"):
        made(frame()[[]], label="")


def test_two_columns_of_one_name_are_refused():
    """Which of them was meant is not to be guessed."""
    table = frame()
    table.columns = ["height", "height", "colour", "label"]
    with pytest.raises(BadInput, match="two columns called 'height'"):
        made(table)


def test_missing_values_are_refused_with_their_column_and_number():
    """A model of NaN has a loss of NaN."""
    rows = frame()
    rows.loc[[3, 7], "weight"] = np.nan
    with pytest.raises(BadInput, match=r"column 'weight' of toy lacks 2 of 60 values; drop .*--data.missing drop, or fill"):
        made(rows)
    assert whole(made(rows, columns=("height",)), "x").shape == (N, 1)  # only what is read counts


def test_rows_with_missing_values_can_be_dropped_and_the_others_keep_their_numbers():
    """Ids that move when a row is dropped would read other rows' signals."""
    rows = frame()
    rows.loc[3, "weight"], rows.loc[7, "label"] = np.nan, None
    data = made(rows, missing="drop")
    assert sorted(torch.cat([getattr(data, s).ids() for s in SPLITS]).tolist()) == [i for i in range(N) if i not in (3, 7)]
    assert [data.classes[y] for y in data.train.labels()] == rows["label"][data.train.ids().tolist()].tolist()


def test_missing_values_can_be_filled_by_the_training_mean_a_word_or_nothing():
    """Zero is the mean after standardising; statistics are of the values that are there."""
    rows = frame(note=["x"] * N)
    rows.loc[[3, 7], "weight"] = np.nan
    blank = made(rows, missing="fill").train.ids()[5].item()
    rows.loc[[blank], ["colour", "note"]] = None
    data = made(rows, missing="fill")
    x = whole(data, "x")
    there = rows["weight"].iloc[data.train.ids()].dropna().to_numpy()
    expected = (rows["weight"] - there.mean()) / there.std()
    np.testing.assert_allclose(x[:, 1], expected.fillna(0), rtol=1e-5, atol=1e-6)
    assert x.shape[1] == 2 + 4 + 2
    assert x[blank, 2:].tolist() == [0, 0, 1, 0, 1, 0]  # blue, green, missing, red; missing, x
    assert whole(made(rows, text=("note",), missing="fill"), "text") == ["" if i == blank else "x" for i in range(N)]


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_row_without_a_label_is_never_filled(nothing):
    """A made-up class would be learnt."""
    rows = frame()
    rows.loc[3, "label"] = nothing
    for missing in ("refuse", "fill"):
        with pytest.raises(BadInput, match="column 'label' of toy lacks 1 of 60 values; drop such rows"):
            made(rows, missing=missing)
    assert len(torch.cat([getattr(made(rows, missing="drop"), s).ids() for s in SPLITS])) == N - 1


def test_rows_that_all_lack_something_are_refused():
    """A column that is empty throughout would drop everything."""
    with pytest.raises(BadInput, match="has no row without missing values"):
        made(frame(height=[np.nan] * N), missing="drop")
    assert not whole(made(frame(height=[np.nan] * N), missing="fill"), "x")[:, 0].any()


@pytest.mark.parametrize("odd", [np.inf, -np.inf])
def test_infinite_numbers_are_refused_whatever_is_done_with_missing_ones(odd):
    """An infinite mean makes all of the column NaN."""
    rows = frame()
    rows.loc[3, "height"] = odd
    for missing in ("refuse", "drop", "fill"):
        with pytest.raises(BadInput, match="column 'height' of toy holds infinite values"):
            made(rows, missing=missing)


def test_ids_of_a_column_do_not_depend_on_the_order_of_the_rows():
    """What was cached under an id is found again after the file was sorted."""
    rows = frame(key=[f"k{i}" for i in range(N)])
    shuffled = rows.sample(frac=1, random_state=0).reset_index(drop=True)

    def by_key(rows):
        data = made(rows, id="key", columns=("height",))
        ids = torch.cat([getattr(data, s).ids() for s in SPLITS]).tolist()
        labels = torch.cat([getattr(data, s).labels() for s in SPLITS]).tolist()
        return dict(zip(ids, labels, strict=True))

    assert by_key(rows) == by_key(shuffled)
    assert len(by_key(rows)) == N
    assert "k3" not in by_key(rows)


def test_ids_do_not_change_when_rows_are_added():
    """More data must not make the cache of the old worthless."""
    rows = frame(key=range(N))
    fewer = made(rows.iloc[: N - 6], id="key", columns=("height",))
    ids = {i for s in SPLITS for i in getattr(fewer, s).ids().tolist()}
    assert ids < {i for s in SPLITS for i in getattr(made(rows, id="key", columns=("height",)), s).ids().tolist()}


@pytest.mark.parametrize("keys", [["a"] * N, [None, *range(1, N)]], ids=["double", "missing"])
def test_ids_must_be_there_and_distinct(keys):
    """Two samples under one id would share their signals."""
    with pytest.raises(BadInput, match="column 'key' of toy does not tell its rows apart"):
        made(frame(key=keys), id="key", columns=("height",))


def test_a_column_may_say_the_split():
    """The names that people use, in any order of rows; ids stay row numbers."""
    said = ["Test", " val ", "train", "training", "dev", "train"] * (N // 6)
    data = made(frame(part=said, label=[("ant", "bee", "cow")[i // 6 % 3] for i in range(N)]), split="part", columns=("height",))
    names = {"Test": "test", " val ": "validation", "dev": "validation"}
    for split in SPLITS:
        assert getattr(data, split).ids().tolist() == [i for i, s in enumerate(said) if names.get(s, "train") == split]
    assert "part" not in data.train.columns


def test_a_column_that_says_only_train_and_test_has_validation_cut_from_train():
    """Test stays what it was said to be."""
    said = ["test" if i < 12 else "train" for i in range(N)]
    data = made(frame(part=said), split="part", columns=("height",), validation=0.25)
    assert data.test.ids().tolist() == list(range(12))
    assert [len(getattr(data, s)) for s in SPLITS] == [36, 12, 12]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["train", "holdout"] * (N // 2), "column 'part' of toy says 'holdout'; expected train, validation or test"),
        (["train", None] * (N // 2), "column 'part' of toy says ''"),
        (["test", "val"] * (N // 2), "expected train among them"),
    ],
)
def test_a_column_that_says_something_else_is_refused(said, message):
    """A misspelt split would vanish."""
    with pytest.raises(BadInput, match=message):
        made(frame(part=said), split="part")


def test_a_second_frame_is_the_test_split():
    """Benchmarks come as two files; the second's ids count on."""
    test = frame().iloc[:9]
    data = made(frame(), test)
    assert data.test.ids().tolist() == list(range(N, N + 9))
    train = frame()[["height"]].iloc[data.train.ids()].to_numpy()
    np.testing.assert_allclose(
        data.test.columns["x"][:, 0], StandardScaler().fit(train).transform(test[["height"]].to_numpy())[:, 0], rtol=1e-5, atol=1e-6
    )
    assert [data.classes[i] for i in data.test.labels()] == test["label"].tolist()


def test_a_second_frame_must_have_the_columns_of_the_first():
    """A column that test lacks would be NaN there, one that only test has NaN in training."""
    with pytest.raises(BadInput, match="toy/test has no column 'weight'"):
        made(frame(), frame(weight=None))
    with pytest.raises(BadInput, match="toy has no column 'extra'"):
        made(frame(), frame(extra=1.0))
    assert len(made(frame(), frame(extra=1.0), columns=("height",)).test) == N


def test_a_column_and_a_file_must_not_both_say_what_is_test():
    """One of them would be ignored."""
    both = frame(part=["train"] * N)
    with pytest.raises(BadInput, match="column 'part' says what is test, and so does a second file"):
        made(both, both, split="part")


def test_a_split_whose_rows_were_all_dropped_is_cut_anew():
    """Public test splits often come without their labels."""
    data = made(frame(), frame(label=[None] * N), missing="drop")
    assert [len(getattr(data, s)) for s in SPLITS] == [42, 9, 9]
    assert max(data.test.ids().tolist()) < N


def test_frames_may_have_any_index():
    """A frame that was filtered has gaps in its index."""
    rows = frame().iloc[::2]
    assert whole(made(rows, rare="keep"), "id").tolist() == list(range(N // 2))


def test_the_given_frame_is_left_as_it_is():
    """It is the user's."""
    rows = frame(height=[Decimal(i) for i in range(N)])
    before = rows.copy(deep=True)
    made(rows)
    pd.testing.assert_frame_equal(rows, before)


def test_thousands_of_columns_are_read_without_a_warning():
    """Gene expression, for instance; pandas warns where frames are built column by column."""
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 1500)), columns=[f"g{i}" for i in range(1500)])
    assert made(wide.assign(label=frame()["label"])).train.columns["x"].shape[1] == 1500
