"""Parts of differential expression: pure functions of counts, designs and fitted numbers, after DESeq2."""
