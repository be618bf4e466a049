"""Archives of the named corpora: addresses, sizes and checksums, by corpus and part.

SHA-256 as in the tables of torchaudio and TensorFlow Datasets, MD5 as in the list that OpenSLR 141
publishes beside its files. Where no size is published, the checksum alone decides.

- LJSPEECH: Keith Ito and Linda Johnson, https://keithito.com/LJ-Speech-Dataset
- VCTK: Yamagishi, Veaux and MacDonald, https://doi.org/10.7488/ds/2645
- LIBRITTS: Zen et al., https://www.openslr.org/60
- LIBRITTS_R: Koizumi et al., https://www.openslr.org/141
- CMUARCTIC: Kominek and Black, http://festvox.org/cmu_arctic
- YESNO: https://www.openslr.org/1
- SPEECHCOMMANDS: Warden, https://arxiv.org/abs/1804.03209
"""

from __future__ import annotations

from wavenet.storage.download import Published

_LIBRITTS = {
    "dev-clean": (1291469655, "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a"),
    "dev-other": (924804676, "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c"),
    "test-clean": (1230670113, "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5"),
    "test-other": (964502297, "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d"),
    "train-clean-100": (
        7723686890,
        "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
    ),
    "train-clean-360": (
        27504073644,
        "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
    ),
    "train-other-500": (
        44565031479,
        "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
    ),
}

_LIBRITTS_R = {
    "dev-clean": "2c1f5312914890634cc2d15783032ff3",
    "dev-other": "62d3a80ad8a282b6f31b3904f0507e4f",
    "test-clean": "4d373d453eb96c0691e598061bbafab7",
    "test-other": "dbc0959d8bdb6d52200595cabc9995ae",
    "train-clean-100": "6df668d8f5f33e70876bfa33862ad02b",
    "train-clean-360": "382eb3e64394b3da6a559f864339b22c",
    "train-other-500": "a37a8e9f4fe79d20601639bf23d1add8",
}

_ARCTIC = {
    "aew": "645cb33c0f0b2ce41384fdd8d3db2c3f5fc15c1e688baeb74d2e08cab18ab406",
    "ahw": "024664adeb892809d646a3efd043625b46b5bfa3e6189b3500b2d0d59dfab06c",
    "aup": "2c55bc3050caa996758869126ad10cf42e1441212111db034b3a45189c18b6fc",
    "awb": "d74a950c9739a65f7bfc4dfa6187f2730fa03de5b8eb3f2da97a51b74df64d3c",
    "axb": "dd65c3d2907d1ee52f86e44f578319159e60f4bf722a9142be01161d84e330ff",
    "bdl": "26b91aaf48b2799b2956792b4632c2f926cd0542f402b5452d5adecb60942904",
    "clb": "3f16dc3f3b97955ea22623efb33b444341013fc660677b2e170efdcc959fa7c6",
    "eey": "8a0ee4e5acbd4b2f61a4fb947c1730ab3adcc9dc50b195981d99391d29928e8a",
    "fem": "3fcff629412b57233589cdb058f730594a62c4f3a75c20de14afe06621ef45e2",
    "gka": "dc82e7967cbd5eddbed33074b0699128dbd4482b41711916d58103707e38c67f",
    "jmk": "3a37c0e1dfc91e734fdbc88b562d9e2ebca621772402cdc693bbc9b09b211d73",
    "ksp": "8029cafce8296f9bed3022c44ef1e7953332b6bf6943c14b929f468122532717",
    "ljm": "b23993765cbf2b9e7bbc3c85b6c56eaf292ac81ee4bb887b638a24d104f921a0",
    "lnh": "4faf34d71aa7112813252fb20c5433e2fdd9a9de55a00701ffcbf05f24a5991a",
    "rms": "c6dc11235629c58441c071a7ba8a2d067903dfefbaabc4056d87da35b72ecda4",
    "rxr": "1fa4271c393e5998d200e56c102ff46fcfea169aaa2148ad9e9469616fbfdd9b",
    "slp": "54345ed55e45c23d419e9a823eef427f1cc93c83a710735ec667d068c916abf1",
    "slt": "7c173297916acf3cc7fcab2713be4c60b27312316765a90934651d367226b4ea",
}


def _openslr(path: str, size: int | None, digest: str) -> Published:
    hosts = ("https://www.openslr.org", "https://us.openslr.org")
    return Published(tuple(f"{host}/resources/{path}" for host in hosts), size, digest)


def _arctic(speaker: str, sha256: str) -> Published:
    name = f"cmu_arctic/packed/cmu_us_{speaker}_arctic.tar.bz2"
    hosts = ("http://festvox.org", "http://www.festvox.org")
    return Published(tuple(f"{host}/{name}" for host in hosts), None, f"sha256:{sha256}")


ARCHIVES = {
    "LJSPEECH": {
        "": Published(
            ("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",),
            2748572632,
            "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        )
    },
    "VCTK": {
        "": Published(
            (
                "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
                "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
            ),
            11747302977,
            "sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
        )
    },
    "LIBRITTS": {
        part: _openslr(f"60/{part}.tar.gz", size, f"sha256:{sha256}")
        for part, (size, sha256) in _LIBRITTS.items()
    },
    "LIBRITTS_R": {
        part: _openslr(f"141/{part.replace('-', '_')}.tar.gz", None, f"md5:{md5}")
        for part, md5 in _LIBRITTS_R.items()
    },
    "CMUARCTIC": {speaker: _arctic(speaker, sha256) for speaker, sha256 in _ARCTIC.items()},
    "YESNO": {
        "": _openslr(
            "1/waves_yesno.tar.gz",
            4703754,
            "sha256:c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
        )
    },
    "SPEECHCOMMANDS": {
        "": Published(
            (
                "https://storage.googleapis.com/download.tensorflow.org/data/"
                "speech_commands_v0.02.tar.gz",
                "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            ),
            2428923189,
            "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        )
    },
}
"""Archive of each part of each corpus that can be downloaded."""
