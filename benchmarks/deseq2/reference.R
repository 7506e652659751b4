# R DESeq2's complete results of one folder with counts.csv.gz, coldata.csv and design.txt
suppressMessages({ library(DESeq2); library(jsonlite) })
folder <- commandArgs(TRUE)[1]
path <- function(name) file.path(folder, name)
counts <- as.matrix(read.csv(gzfile(path("counts.csv.gz")), row.names = 1))
samples <- read.csv(path("coldata.csv"), row.names = 1, stringsAsFactors = TRUE)
design <- readLines(path("design.txt"))
settings <- if (file.exists(path("settings.json"))) fromJSON(path("settings.json")) else list()
dds <- DESeqDataSetFromMatrix(counts, samples, as.formula(design))
dds <- do.call(DESeq, c(list(dds, quiet = TRUE), settings))
found <- results(dds, alpha = 0.05)
genes <- mcols(dds)
take <- function(name) if (name %in% names(genes)) genes[[name]] else rep(NA, nrow(dds))
columns <- c("baseMean", "baseVar", "dispGeneEst", "dispFit", "dispMAP", "dispersion", "dispOutlier", "betaConv", "replace", "maxCooks")
all <- do.call(cbind, lapply(columns, function(name) as.numeric(take(name))))
colnames(all) <- columns
beta <- coef(dds); se <- coef(dds, SE = TRUE)
colnames(beta) <- paste0("beta_", colnames(beta)); colnames(se) <- sub("^SE_?", "SE_", colnames(se))
table <- data.frame(gene = rownames(dds), all, beta, se, found[, c("log2FoldChange", "lfcSE", "stat", "pvalue", "padj")])
table[] <- lapply(table, function(x) if (is.numeric(x)) formatC(x, digits = 15, width = 1) else x)
write.csv(table, gzfile(path("deseq2_full.csv.gz")), row.names = FALSE, quote = FALSE)
trend <- dispersionFunction(dds)
meta <- metadata(found)
writeLines(toJSON(list(
  design = design, fitType = attr(trend, "fitType"), trend_coefs = as.list(attr(trend, "coefficients")),
  sizeFactors = as.list(sizeFactors(dds)), dispPriorVar = attr(trend, "dispPriorVar"), varLogDispEsts = attr(trend, "varLogDispEsts"),
  filterThreshold = unname(meta$filterThreshold), filterTheta = unname(meta$filterTheta), DESeq2 = as.character(packageVersion("DESeq2"))
), auto_unbox = TRUE, digits = NA), path("meta.json"))
